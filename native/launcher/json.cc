#include "json.h"

#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>
#include <string.h>

#include <string_view>

namespace thaw {
namespace {

// Go's encoding/json, and so runc, refuses deeper documents.
constexpr int kMostDepth = 10'000;

class Picker {
 public:
  explicit Picker(std::initializer_list<Pick> picks) : picks_(picks) {}

  bool StartObject() { return Open(true); }
  bool StartArray() { return Open(false); }
  bool EndObject(rapidjson::SizeType) { return Close(); }
  bool EndArray(rapidjson::SizeType) { return Close(); }

  bool Key(const char* data, rapidjson::SizeType size, bool) {
    const std::string_view name(data, size);
    if (depth_ == 1) {
      section_ = Section(name);
      Choose(nullptr, name);
    } else if (depth_ == 2 && section_) {
      Choose(section_, name);
    }
    return true;
  }
  bool String(const char* data, rapidjson::SizeType size, bool) {
    const std::string_view text(data, size);
    if (Wanted() && chosen_->text && text.find('\0') == std::string_view::npos) *chosen_->text = text;
    return Scalar();
  }
  bool Bool(bool value) {
    if (Wanted() && chosen_->flag) *chosen_->flag = value;
    return Scalar();
  }
  bool Null() { return Scalar(); }
  bool RawNumber(const char*, rapidjson::SizeType, bool) { return Scalar(); }
  bool Int(int) { return Scalar(); }
  bool Uint(unsigned) { return Scalar(); }
  bool Int64(int64_t) { return Scalar(); }
  bool Uint64(uint64_t) { return Scalar(); }
  bool Double(double) { return Scalar(); }

  bool too_deep() const { return depth_ > kMostDepth; }
  bool object() const { return object_; }

 private:
  bool Open(bool object) {
    if (depth_ == 0) object_ = object;
    // What is inside an array or another object has no name here.
    if (depth_ == 1 && !object) section_ = nullptr;
    chosen_ = nullptr;
    return ++depth_ <= kMostDepth;
  }
  bool Close() {
    depth_--;
    chosen_ = nullptr;
    return true;
  }
  bool Scalar() {
    chosen_ = nullptr;
    return true;
  }
  bool Wanted() const { return chosen_ != nullptr; }

  const char* Section(std::string_view name) const {
    for (const Pick& pick : picks_)
      if (pick.section && name == pick.section) return pick.section;
    return nullptr;
  }
  void Choose(const char* section, std::string_view key) {
    chosen_ = nullptr;
    for (const Pick& pick : picks_) {
      const bool here = section && pick.section ? strcmp(section, pick.section) == 0 : section == pick.section;
      if (here && key == pick.key) chosen_ = &pick;
    }
  }

  const std::initializer_list<Pick> picks_;
  int depth_ = 0;
  bool object_ = false;
  const char* section_ = nullptr;
  const Pick* chosen_ = nullptr;
};

}  // namespace

Error PickJson(std::string text, std::initializer_list<Pick> picks) {
  // Iterative: nesting costs heap, not stack. In place: strings are decoded where they stand. Numbers stay text: those
  // of a spec are unsigned 64-bit and none of them is looked at.
  constexpr unsigned kFlags =
      rapidjson::kParseIterativeFlag | rapidjson::kParseInsituFlag | rapidjson::kParseNumbersAsStringsFlag;
  Picker picker(picks);
  rapidjson::InsituStringStream stream(text.data());
  rapidjson::Reader reader;
  const rapidjson::ParseResult result = reader.Parse<kFlags>(stream, picker);
  if (picker.too_deep()) return {"it is nested deeper than 10000 levels"};
  if (result.IsError())
    return {std::string(rapidjson::GetParseError_En(result.Code())) + " (byte " + std::to_string(result.Offset()) +
            ")"};
  // The parser takes a NUL byte for the end of the text.
  if (stream.Tell() < text.size()) return {"it has a NUL byte at " + std::to_string(stream.Tell())};
  if (!picker.object()) return {"it is no JSON object"};
  return {};
}

}  // namespace thaw
