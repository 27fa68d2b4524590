// Which addresses of one address space show which pages of its pages file. Pure; the caller locks.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace thaw {

constexpr uint64_t kPage = 4096;

// Consecutive pages at consecutive addresses.
struct Piece {
  uint64_t address;  // bytes, a multiple of kPage
  uint64_t page;     // number in the pages file
  uint64_t pages;

  uint64_t end() const { return address + pages * kPage; }
};

class RangeMap {
 public:
  // False if a part of it, address or page, is there already; then nothing changed.
  bool Add(const Piece& piece);
  // Takes [start, end) out and returns what was there.
  std::vector<Piece> Remove(uint64_t start, uint64_t end);
  // What was at [from, from + length) is at `to` now. Returns what that displaced.
  std::vector<Piece> Move(uint64_t from, uint64_t to, uint64_t length);

  // The rest of a piece from `address` on; false if nothing is there.
  bool AtAddress(uint64_t address, Piece* rest) const;
  // The first piece that has `page` or a later one, from there on.
  bool FromPage(uint64_t page, Piece* rest) const;
  // The lowest address at or above `address` that has a page, or UINT64_MAX.
  uint64_t NextAddress(uint64_t address) const;

 private:
  void Insert(const Piece& piece);

  std::map<uint64_t, Piece> by_address_;
  std::map<uint64_t, Piece> by_page_;
};

}  // namespace thaw
