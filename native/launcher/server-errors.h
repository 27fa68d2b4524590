// What a server writes to its standard error: nothing, unless Node cannot run (a C library that is too old, an incomplete
// installation) or gives up (out of memory). By then nobody listens, so it goes to a file of the bundle, and `delete`
// tells containerd.
#pragma once

#include <string>

#include "../fd.h"

namespace thaw {

// Not a fifo: a write must never block.
UniqueFd OpenServerErrors(const std::string& bundle);

// The last of it; empty if there is none.
std::string ReadServerErrors(const std::string& bundle);

}  // namespace thaw
