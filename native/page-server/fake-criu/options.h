// The command line.
#pragma once

#include <stdint.h>

#include <string>

namespace thaw {

struct Options {
  std::string socket, layout, scenario, pages, bug;
  uint64_t seed = 1;
  uint64_t operations = 2000;  // for each thread
  uint64_t seconds = 0;        // if not 0, instead of operations
  unsigned threads = 4;
  unsigned timeout = 60;       // seconds
  unsigned pause_us = 20;      // serve-slow: between pages that nobody asked for
  unsigned map_delay_ms = 2;   // from the userfaultfd's way to the page server until memory is registered
  bool wait = false;           // for a line on standard input before the scenario starts
  bool early = false;          // the scenario starts before the page server is told that all processes are there
  bool keep = false;           // processes stay until standard input ends, then check everything again
};

// Ends the program if an option makes no sense. `argv` starts with the first option.
Options ParseOptions(int argc, char** argv);

}  // namespace thaw
