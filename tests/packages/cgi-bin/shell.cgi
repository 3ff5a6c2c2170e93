#!/bin/sh
# What shells have always been used for: a choice by the path, a filter of the body, a redirect, a slip.
set -eu
case ${PATH_INFO:-} in
    /upper)
        printf 'Content-Type: text/plain\n\n'
        tr a-z A-Z ;;
    /bytes)
        printf 'Content-Type: application/octet-stream\nContent-Length: %s\n\n' "$CONTENT_LENGTH"
        head -c "$CONTENT_LENGTH" ;;
    /early)
        printf 'Status: 413 Too Much\nContent-Type: text/plain\n\nnot read\n' ;;
    /here)
        printf 'Location: %s/upper?from=here\n\n' "$SCRIPT_NAME" ;;
    /away)
        printf 'Location: http://www.example.org:8080/elsewhere\n\n' ;;
    /away-with-a-page)
        printf 'Status: 301 Moved\nLocation: /elsewhere\nContent-Type: text/plain\n\nit is elsewhere\n' ;;
    /crlf)
        printf 'Content-Type: text/plain\r\nX-Line:   spaces  \r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nbody\r\n' ;;
    /big)
        printf 'Content-Type: text/plain\n\n'
        seq 1 200000 ;;
    /validators)
        printf 'Content-Type: text/plain\nETag: "v1"\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\n\nvalid\n' ;;
    /range)
        printf 'Content-Type: text/plain\n\n0123456789' ;;
    /no-header)
        echo 'not a header block' ;;
    /nothing) ;;
    /fails)
        printf 'Content-Type: text/plain\n\nhalf\n'
        exit 3 ;;
    *)
        printf 'Content-Type: text/plain\n\n'
        env | grep -E '^(AUTH_|CONTENT_|GATEWAY|HTTP_|PATH_INFO|QUERY|REMOTE_(ADDR|USER)|REQUEST_(METHOD|URI|SCHEME)|SCRIPT_NAME|SERVER_(ADDR|NAME|PORT|PROTOCOL))' | LC_ALL=C sort ;;
esac
