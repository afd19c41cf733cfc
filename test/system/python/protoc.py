"""Runs the protoc of grpc_tools without extra arguments. `python3 -m grpc_tools.protoc` adds an -I, which protoc rejects together with
--descriptor_set_in."""

import sys

from grpc_tools import protoc

sys.exit(protoc.main(sys.argv))
