#include "server-errors.h"

#include <fcntl.h>

#include "files.h"

namespace thaw {
namespace {
constexpr char kFile[] = "server.stderr";
}

UniqueFd OpenServerErrors(const std::string& bundle) {
  return UniqueFd(open(JoinPath({bundle, kFile}).c_str(),
                       O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
}

std::string ReadServerErrors(const std::string& bundle) {
  constexpr size_t kMostBytes = 16 << 20, kLast = 4096;
  std::string text;
  if (ReadFile(JoinPath({bundle, kFile}), kMostBytes, &text) != 0) return {};
  return text.size() > kLast ? text.substr(text.size() - kLast) : text;
}

}  // namespace thaw
