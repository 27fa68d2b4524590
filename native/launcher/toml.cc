#include "toml.h"

#include <stdint.h>

#include <algorithm>

namespace thaw {
namespace {

// Reads keys and values up to the first table header. A library would be 0.75 MB and 0.15 ms at every start of the
// launcher (measured with toml++ 3.3), for two keys that few nodes set.
class Scanner {
 public:
  explicit Scanner(std::string_view document) : rest_(document) {}

  // False at the first table, at the end, or where ok() is false. A dotted key belongs to a table and comes as an
  // empty one.
  bool Next(std::string* key, std::string* text, bool* is_text) {
    SkipBlank(true);
    if (rest_.empty() || rest_[0] == '[') return false;
    ok_ = Key(key) && Take('=');
    SkipBlank(false);
    ok_ = ok_ && Value(text, is_text);
    SkipBlank(false);
    ok_ = ok_ && (rest_.empty() || rest_[0] == '\n' || rest_.substr(0, 2) == "\r\n");
    return ok_;
  }
  bool ok() const { return ok_; }
  std::string_view rest() const { return rest_; }

 private:
  bool Starts(std::string_view text) const { return rest_.substr(0, text.size()) == text; }
  bool Take(char c) {
    SkipBlank(false);
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  // White space and comments; `lines`: also over the ends of lines.
  void SkipBlank(bool lines) {
    while (!rest_.empty()) {
      const char c = rest_[0];
      if (c == '#') rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) rest_.remove_prefix(1);
      else return;
    }
  }

  static bool Bare(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  }

  bool Key(std::string* key) {
    bool dotted = false;
    do {
      SkipBlank(false);
      key->clear();
      if (Starts("\"") || Starts("'")) {
        if (!Text(key)) return false;
      } else {
        size_t length = 0;
        while (length < rest_.size() && Bare(rest_[length])) length++;
        if (length == 0) return false;
        *key = rest_.substr(0, length);
        rest_.remove_prefix(length);
      }
    } while (Take('.') && (dotted = true));
    if (dotted) key->clear();
    return true;
  }

  bool Value(std::string* text, bool* is_text) {
    text->clear();
    *is_text = Starts("\"") || Starts("'");
    if (*is_text) return Text(text);
    // A number, a date, an array or an inline table: only its end matters.
    size_t open = 0;
    for (size_t length = 0; !rest_.empty(); length++) {
      const char c = rest_[0];
      if (c == '"' || c == '\'') {
        std::string ignored;
        if (!Text(&ignored)) return false;
        continue;
      }
      if (c == '[' || c == '{') open++;
      if ((c == ']' || c == '}') && open-- == 0) return false;
      if (open == 0 && (c == '\n' || c == '\r' || c == '#')) return length > 0;
      if (c == '#') SkipBlank(true);
      else rest_.remove_prefix(1);
    }
    return open == 0;
  }

  bool Text(std::string* text) {
    const bool literal = rest_[0] == '\'';
    const std::string_view quote = literal ? "'" : "\"";
    const std::string_view triple = literal ? "'''" : "\"\"\"";
    const bool lines = Starts(triple);
    const std::string_view end = lines ? triple : quote;
    rest_.remove_prefix(end.size());
    if (lines && Starts("\r\n")) rest_.remove_prefix(2);
    else if (lines && Starts("\n")) rest_.remove_prefix(1);
    while (!rest_.empty()) {
      if (Starts(end)) {
        rest_.remove_prefix(end.size());
        // Up to two quotes may stand before the closing three.
        for (int more = 0; lines && more < 2 && Starts(quote); more++) {
          *text += quote;
          rest_.remove_prefix(1);
        }
        return true;
      }
      const char c = rest_[0];
      if (!lines && (c == '\n' || c == '\r')) return false;
      rest_.remove_prefix(1);
      if (literal || c != '\\') *text += c;
      else if (!Escape(lines, text)) return false;
    }
    return false;
  }

  bool Escape(bool lines, std::string* text) {
    if (rest_.empty()) return false;
    const char c = rest_[0];
    if (lines && (c == '\n' || c == '\r' || c == ' ' || c == '\t')) {
      const size_t next = rest_.find_first_not_of(" \t\r\n");
      if (rest_.substr(0, next).find('\n') == std::string_view::npos) return false;
      rest_.remove_prefix(std::min(next, rest_.size()));
      return true;
    }
    rest_.remove_prefix(1);
    constexpr std::string_view kNames = "btnfre\"\\", kBytes = "\b\t\n\f\r\x1b\"\\";
    const size_t at = kNames.find(c);
    if (at != std::string_view::npos) return *text += kBytes[at], true;
    return c == 'u' ? Unicode(4, text) : c == 'U' && Unicode(8, text);
  }

  bool Unicode(size_t digits, std::string* text) {
    uint32_t code = 0;
    for (; digits > 0; digits--) {
      if (rest_.empty()) return false;
      const size_t value = std::string_view("0123456789abcdef0123456789ABCDEF").find(rest_[0]);
      if (value == std::string_view::npos) return false;
      code = code << 4 | (value & 15);
      rest_.remove_prefix(1);
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    const auto put = [text](uint32_t byte) { *text += static_cast<char>(byte); };
    if (code < 0x80) return put(code), true;
    if (code >= 0x10000) put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f));
    else if (code >= 0x800) put(0xe0 | code >> 12);
    else return put(0xc0 | code >> 6), put(0x80 | (code & 0x3f)), true;
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
    return true;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace

Error PickToml(std::string_view document, std::initializer_list<TomlPick> picks) {
  Scanner scanner(document);
  std::string key, text;
  bool is_text = false;
  while (scanner.Next(&key, &text, &is_text)) {
    if (!is_text) continue;
    for (const TomlPick& pick : picks)
      if (key == pick.key && text.find('\0') == std::string::npos) *pick.text = text;
  }
  if (scanner.ok()) return {};
  const size_t line = 1 + static_cast<size_t>(std::count(document.begin(),
      document.end() - static_cast<std::ptrdiff_t>(scanner.rest().size()), '\n'));
  return {"line " + std::to_string(line) + " is no key and value"};
}

}  // namespace thaw
