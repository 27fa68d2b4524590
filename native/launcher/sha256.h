// SHA-256 of a text, as 64 hexadecimal digits.
#pragma once

#include <string>
#include <string_view>

namespace thaw {

std::string Sha256(std::string_view text);

}  // namespace thaw
