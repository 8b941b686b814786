#!/bin/sh
exec go -C "$(dirname "$0")" run . bounds "$@"
