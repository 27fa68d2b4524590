// Why something could not be done, in the user's words. No text: it was done.
#pragma once

#include <string>
#include <string_view>

namespace thaw {

struct [[nodiscard]] Error {
  std::string text;
  explicit operator bool() const { return !text.empty(); }
};

// `Cannot open "/x": No such file or directory`. `error` is an errno.
Error Cannot(std::string_view what, std::string_view object, int error);

// `"text"`, with control characters made visible.
std::string Quoted(std::string_view text);

}  // namespace thaw
