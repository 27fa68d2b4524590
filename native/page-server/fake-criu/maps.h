#pragma once

#include <stdint.h>

namespace thaw {

// End of this process's mapping that holds `address`; 0 if there is none. Allocates nothing.
uint64_t MappingEnd(uint64_t address);

}  // namespace thaw
