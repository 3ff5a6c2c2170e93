#!/bin/sh
echo "Content-Type: text/plain"
echo
echo "Hello, $REMOTE_ADDR. You asked for ${PATH_INFO:-nothing in particular}."
date
