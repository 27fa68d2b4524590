#include "pending.h"

#include <vector>

#include "content.h"

namespace thaw {

void Pending::SplitAt(uint64_t address) {
  auto run = runs_.upper_bound(address);
  if (run == runs_.begin()) return;
  --run;
  if (run->first == address || run->second.end <= address) return;
  const Run rest{run->second.end, run->second.first_page + (address - run->first) / kPageBytes};
  run->second.end = address;
  runs_.emplace(address, rest);
}

void Pending::Remove(uint64_t start, uint64_t end) {
  SplitAt(start);
  SplitAt(end);
  runs_.erase(runs_.lower_bound(start), runs_.lower_bound(end));
}

void Pending::Add(uint64_t start, uint64_t end, uint64_t first_page) {
  Remove(start, end);
  runs_[start] = {end, first_page};
}

void Pending::Move(uint64_t from, uint64_t to, uint64_t bytes) {
  SplitAt(from);
  SplitAt(from + bytes);
  const auto begin = runs_.lower_bound(from), end = runs_.lower_bound(from + bytes);
  const std::vector<std::pair<uint64_t, Run>> moved(begin, end);
  runs_.erase(begin, end);
  Remove(to, to + bytes);
  for (const auto& [start, run] : moved) Add(start - from + to, run.end - from + to, run.first_page);
}

std::optional<uint64_t> Pending::PageAt(uint64_t address) const {
  auto run = runs_.upper_bound(address);
  if (run == runs_.begin()) return std::nullopt;
  --run;
  if (address >= run->second.end) return std::nullopt;
  return run->second.first_page + (address - run->first) / kPageBytes;
}

std::optional<uint64_t> Pending::NextAddress(uint64_t from) const {
  if (runs_.empty()) return std::nullopt;
  if (PageAt(from)) return from;
  const auto run = runs_.lower_bound(from);
  return run == runs_.end() ? runs_.begin()->first : run->first;
}

}  // namespace thaw
