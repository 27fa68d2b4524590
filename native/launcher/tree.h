// The install tree of this launcher and the programs in it.
//
//   /opt/thaw/<version>/bin/containerd-shim-thaw-v2   this program (often reached through a symbolic link)
//   /opt/thaw/<version>/bin/node
//   /opt/thaw/<version>/lib/shim.cjs
//   /opt/thaw/<version>/lib/cache                     compiled code, filled by servers
//   /opt/thaw/<version>/criu/criu                     the CRIU that runc is to find
#pragma once

#include <string>
#include <vector>

#include "error.h"

namespace thaw {

// `tree`: the directory of this program's own version, wherever a link to it lies.
Error FindTree(std::string* tree);

struct Command {
  std::string program;
  std::vector<std::string> arguments;    // with argv[0]
  std::vector<std::string> environment;  // "NAME=value"
};

// What runs the server, with the shim's own arguments. The one place that knows how.
Error ServerCommand(const std::string& tree, const std::vector<std::string>& shim_arguments, Command* command);

// runc with its arguments: our environment with our CRIU first in the PATH.
Error RuncCommand(const std::string& tree, const std::string& binary, const std::vector<std::string>& arguments,
                  Command* command);

}  // namespace thaw
