// `delete`: takes away everything of a container whose server does not answer, within containerd's five seconds.
#pragma once

#include "error.h"
#include "flags.h"

namespace thaw {

// Everything is tried, whatever fails before; doing it twice is no error. Prints a DeleteResponse.
Error Remove(const Flags& flags);

}  // namespace thaw
