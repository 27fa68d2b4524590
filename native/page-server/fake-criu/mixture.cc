#include "mixture.h"

#include "../../launcher/clock.h"

namespace thaw {

const Weighted kMoves[] = {
    {12, &Part::Move},
    {4, &Part::MoveAndKeep},
    {4, &Part::Shrink},
    {8, &Part::Grow},
    {10, &Part::CheckSome},
    {6, &Part::WriteSome},
    {2, &Part::Drop},
    {0, nullptr},
};
const Weighted kUnmaps[] = {
    {8, &Part::Unmap},
    {8, &Part::MapNew},
    {6, &Part::Grow},
    {16, &Part::CheckSome},
    {4, &Part::WriteSome},
    {0, nullptr},
};
const Weighted kProtects[] = {
    {10, &Part::Protect},
    {12, &Part::CheckSome},
    {2, &Part::CheckThroughKernel},
    {6, &Part::WriteSome},
    {2, &Part::WriteThroughKernel},
    {2, &Part::Drop},
    {1, &Part::Populate},
    {0, nullptr},
};
const Weighted kEverything[] = {
    {30, &Part::CheckSome},
    {6, &Part::CheckThroughKernel},
    {20, &Part::WriteSome},
    {5, &Part::WriteThroughKernel},
    {3, &Part::WriteWhole},
    {10, &Part::Drop},
    {1, &Part::Free},
    {3, &Part::Unmap},
    {3, &Part::MapNew},
    {8, &Part::Protect},
    {4, &Part::UnprotectAll},
    {8, &Part::Move},
    {3, &Part::MoveAndKeep},
    {3, &Part::Shrink},
    {5, &Part::Grow},
    {2, &Part::Advise},
    {1, &Part::Populate},
    {0, nullptr},
};

void DoOne(Part& part, const Weighted* table) {
  unsigned total = 0;
  for (const Weighted* entry = table; entry->run; entry++) total += entry->weight;
  uint64_t at = part.random().Below(total);
  while (at >= table->weight) at -= table++->weight;
  (part.*table->run)();
}

void DoMany(const Actor& actor, Part& part, const Weighted* table) {
  const Deadline deadline(static_cast<int64_t>(actor.options.seconds) * 1000);
  for (uint64_t i = 0; actor.options.seconds ? !deadline.over() : i < actor.options.operations; i++)
    DoOne(part, table);
}

}  // namespace thaw
