// Standard input of `start` and `-info`: up to containerd 2.2 the options as an Any or nothing, from 2.3 on
// BootstrapParams with the options among its extensions.
#pragma once

#include <string>
#include <string_view>

#include "error.h"
#include "flags.h"

namespace thaw {

struct Any {
  std::string type;  // without a host in front
  std::string value;
};

struct StartInput {
  Any options;             // no type: none
  std::string socket_dir;  // empty: containerd's default
};

// What of the options concerns the launcher; the rest is the server's, which gets them with Create.
struct Options {
  std::string binary_name;
  std::string shim_cgroup;
};

Error ParseStartInput(std::string_view input, const Flags& flags, StartInput* result);

// Options of a type that only runtime v1 had are as if there were none.
Error ParseOptions(const Any& any, Options* options);

}  // namespace thaw
