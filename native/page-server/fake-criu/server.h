// A page server that is as simple as can be: one thread, one page at a time. The scenarios are tried against it, and it
// can be told to make a mistake that they must find:
//   ignore-remove, ignore-unmap, ignore-remap, ignore-fork    of the event
//   late-copy     a page is copied to where it belonged a little earlier
//   int-length    lengths of events have 32 bits with sign, as in CRIU 4.2's own server; what is negative is nothing
//   give-up       a page for which there is no place yet is forgotten
//   other-page    now and then the neighbour's content
#pragma once

#include "options.h"

namespace thaw {

// Serves one restore, and returns the exit status of the program when all its processes have ended.
int Serve(const Options& options);

}  // namespace thaw
