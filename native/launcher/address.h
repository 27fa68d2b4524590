// Where the server of a container's pod listens, by containerd's convention: shims and containerd's own tools find each
// other by it.
#pragma once

#include <string>

#include "error.h"
#include "flags.h"
#include "spec.h"

namespace thaw {

constexpr char kUnix[] = "unix://";

// `directory`: empty for containerd's default. Refuses a path that no socket can have.
Error SocketPath(const Flags& flags, const Spec& spec, const std::string& directory, std::string* path);

}  // namespace thaw
