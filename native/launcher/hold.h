// `hold`: keeps the device of a FUSE mount open, on descriptor 3, over restarts of the daemon that serves it. It says on
// descriptor 4 when it has outgrown its parent, and ends when nothing is mounted any more.
#pragma once

#include "error.h"

namespace thaw {

Error Hold();

}  // namespace thaw
