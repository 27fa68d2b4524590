// Command line of a shim, read as Go's flag package does: one or two dashes, "-name value" or "-name=value", and the
// first word that is no flag ends them and is the action. The order differs between containerd's releases.
#pragma once

#include <string>

#include "error.h"

namespace thaw {

enum class Action { kServe, kStart, kDelete, kGuard, kHold, kInfo, kVersion };

struct Flags {
  Action action = Action::kServe;
  std::string ns;       // containerd's namespace
  std::string id;       // of the container
  std::string address;  // containerd's gRPC socket
  std::string publish_binary;
  std::string bundle;
  std::string socket;  // what a server's inherited listener is bound to
  bool debug = false;
};

Error ParseFlags(int argc, char** argv, Flags* flags);

// What every action on a container needs. Namespace and id become parts of paths.
Error RequireContainer(const Flags& flags);

}  // namespace thaw
