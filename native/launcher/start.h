// `start`: makes the pod's socket, starts its server behind it, prints the address, and is gone.
#pragma once

#include "error.h"
#include "flags.h"

namespace thaw {

Error Start(const Flags& flags);

}  // namespace thaw
