// CRIU's part: makes the processes, hands their userfaultfds to the page server, and lets them run.
#pragma once

#include "options.h"

namespace thaw {

// Exit status of the program.
int Restore(const Options& options);

}  // namespace thaw
