// The bytes at each place of four-byte words, put together again.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thaw {

constexpr size_t kPlanes = 4;

// into[4 * i + p] = planes[p][i] for every i below `count`. Nothing needs to be aligned; `into` overlaps no plane.
void JoinPlanes(const uint8_t* const planes[kPlanes], size_t count, uint8_t* into);

}  // namespace thaw
