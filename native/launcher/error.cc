#include "error.h"

#include <string.h>

namespace thaw {

std::string Quoted(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      quoted += c;
    } else {
      quoted += "\\x";
      quoted += kHex[byte >> 4];
      quoted += kHex[byte & 15];
    }
  }
  return quoted += '"';
}

Error Cannot(std::string_view what, std::string_view object, int error) {
  std::string text = "Cannot ";
  text += what;
  if (!object.empty()) text += ' ' + Quoted(object);
  text += ": ";
  return {text += strerror(error)};
}

}  // namespace thaw
