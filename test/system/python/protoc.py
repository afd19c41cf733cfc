"""The protoc of grpc_tools as it is. `python3 -m grpc_tools.protoc` adds an -I of its own, which protoc refuses beside
--descriptor_set_in."""

import sys

from grpc_tools import protoc

sys.exit(protoc.main(sys.argv))
