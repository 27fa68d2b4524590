// Random operations, chosen by weight.
#pragma once

#include "part.h"
#include "scenarios.h"

namespace thaw {

struct Weighted {
  unsigned weight;
  void (Part::*run)();
};

// A table ends with {0, nullptr}.
extern const Weighted kMoves[], kUnmaps[], kProtects[], kEverything[];

void DoOne(Part& part, const Weighted* table);

// As many operations, or as long, as the options say.
void DoMany(const Actor& actor, Part& part, const Weighted* table);

}  // namespace thaw
