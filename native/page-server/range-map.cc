#include "range-map.h"

#include <algorithm>

namespace thaw {

void RangeMap::Insert(const Piece& piece) {
  by_address_.emplace(piece.address, piece);
  by_page_.emplace(piece.page, piece);
}

bool RangeMap::Add(const Piece& piece) {
  if (piece.pages == 0 || NextAddress(piece.address) < piece.end()) return false;
  Piece other;
  if (FromPage(piece.page, &other) && other.page < piece.page + piece.pages) return false;
  Insert(piece);
  return true;
}

std::vector<Piece> RangeMap::Remove(uint64_t start, uint64_t end) {
  std::vector<Piece> removed;
  if (start >= end) return removed;
  auto at = by_address_.upper_bound(start);
  if (at != by_address_.begin() && std::prev(at)->second.end() > start) --at;
  while (at != by_address_.end() && at->first < end) {
    const Piece piece = at->second;
    at = by_address_.erase(at);
    by_page_.erase(piece.page);
    const uint64_t first = std::max(start, piece.address), last = std::min(end, piece.end());
    if (piece.address < first) Insert({piece.address, piece.page, (first - piece.address) / kPage});
    if (last < piece.end())
      Insert({last, piece.page + (last - piece.address) / kPage, (piece.end() - last) / kPage});
    removed.push_back({first, piece.page + (first - piece.address) / kPage, (last - first) / kPage});
  }
  return removed;
}

std::vector<Piece> RangeMap::Move(uint64_t from, uint64_t to, uint64_t length) {
  const std::vector<Piece> moved = Remove(from, from + length);
  std::vector<Piece> displaced = Remove(to, to + length);
  for (const Piece& piece : moved) Insert({piece.address - from + to, piece.page, piece.pages});
  return displaced;
}

bool RangeMap::AtAddress(uint64_t address, Piece* rest) const {
  auto at = by_address_.upper_bound(address);
  if (at == by_address_.begin()) return false;
  const Piece& piece = (--at)->second;
  if (address >= piece.end()) return false;
  const uint64_t skipped = (address - piece.address) / kPage;
  *rest = {piece.address + skipped * kPage, piece.page + skipped, piece.pages - skipped};
  return true;
}

bool RangeMap::FromPage(uint64_t page, Piece* rest) const {
  auto at = by_page_.upper_bound(page);
  if (at != by_page_.begin()) {
    const Piece& before = std::prev(at)->second;
    if (page < before.page + before.pages) {
      const uint64_t skipped = page - before.page;
      *rest = {before.address + skipped * kPage, page, before.pages - skipped};
      return true;
    }
  }
  if (at == by_page_.end()) return false;
  *rest = at->second;
  return true;
}

uint64_t RangeMap::NextAddress(uint64_t address) const {
  const auto at = by_address_.upper_bound(address);
  if (at != by_address_.begin() && std::prev(at)->second.end() > address) return address;
  return at == by_address_.end() ? UINT64_MAX : at->first;
}

}  // namespace thaw
