#!/usr/bin/python3
"""A WSGI application, by the CGI handler of Python's standard library."""

import json
from wsgiref.handlers import CGIHandler
from wsgiref.util import request_uri


def application(environ, start_response):
    path = environ.get("PATH_INFO", "")
    text = [("Content-Type", "text/plain; charset=utf-8")]
    if path == "/told":
        names = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT",
                 "SERVER_PROTOCOL", "REMOTE_ADDR", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_COOKIE", "wsgi.url_scheme")
        start_response("200 OK", text)
        return [f"{name}={environ.get(name)!r}\n".encode() for name in names] + [request_uri(environ).encode()]
    if path == "/sum" and environ["REQUEST_METHOD"] == "POST":
        numbers = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("201 Created", [("Content-Type", "application/json"), ("Location", "/sums/1")])
        return [json.dumps({"sum": sum(numbers)}).encode()]
    if path == "/lines":
        start_response("200 OK", text)
        return (f"line {number}\n".encode() for number in range(2000))
    if path == "/cookies":
        start_response("200 OK", text + [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; HttpOnly"), ("Vary", "Cookie")])
        return [b"two\n"]
    if path == "/none":
        start_response("204 No Content", [("X-Note", "nothing")])
        return []
    if path == "/unchanged":
        start_response("304 Not Modified", [("ETag", '"v1"')])
        return []
    if path == "/broken":
        raise RuntimeError("as it may happen")
    start_response("404 Not Found", text)
    return [f"no {path}\n".encode()]


CGIHandler().run(application)
