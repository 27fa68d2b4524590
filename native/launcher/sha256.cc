#include "sha256.h"

#include <sha2.h>

namespace thaw {

std::string Sha256(std::string_view text) {
  char digits[SHA256_DIGEST_STRING_LENGTH];
  SHA256Data(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digits);
  return digits;
}

}  // namespace thaw
