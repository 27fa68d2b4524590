#include "log.h"

#include <fcntl.h>
#include <time.h>

#include <string_view>

#include "../fd.h"
#include "files.h"

namespace thaw {
namespace {

std::string Json(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      quoted += "\\u00";
      quoted += kHex[byte >> 4];
      quoted += kHex[byte & 15];
      continue;
    }
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted += '"';
}

}  // namespace

void LogWarning(const std::string& bundle, const std::string& container, const std::string& message) {
  const UniqueFd fifo(open(JoinPath({bundle, "log"}).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fifo.valid()) return;
  // As the server's own lines.
  const std::string line = "{\"level\":40,\"time\":" + std::to_string(time(nullptr) * 1000LL) +
                           ",\"container\":" + Json(container) + ",\"msg\":" + Json(message) + "}\n";
  static_cast<void>(WriteAll(fifo.get(), line));
}

}  // namespace thaw
