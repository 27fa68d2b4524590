// What a pretended process does with its memory after it was restored. Each scenario returns when all was right;
// otherwise the process ends with a message and kWrong.
#pragma once

#include "memory.h"
#include "options.h"
#include "part.h"

namespace thaw {

struct Actor {
  const Memory& memory;
  const Options& options;
  unsigned index;  // of the process in the layout
};

using Scenario = void (*)(const Actor&);

// Null if there is none of that name.
Scenario FindScenario(const std::string& name);

// Checks everything once more.
void Recheck(const Actor& actor);

// In fork.cc.
void ForkScenario(const Actor& actor);

// Runs `work` with the pages of the index'th of `threads` threads on each.
void RunThreads(const Actor& actor, unsigned threads, void (*work)(const Actor&, unsigned index, Part& part));

}  // namespace thaw
