#include "protobuf.h"

namespace thaw {
namespace {

void Append(uint64_t value, std::string* message) {
  for (; value >= 0x80; value >>= 7) *message += static_cast<char>(value | 0x80);
  *message += static_cast<char>(value);
}

}  // namespace

bool ProtoReader::Varint(uint64_t* value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    // The tenth byte holds the last bit of 64.
    if (shift == 63 && byte > 1) return false;
    *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool ProtoReader::Take(uint64_t count, std::string_view* bytes) {
  if (count > rest_.size()) return false;
  *bytes = rest_.substr(0, static_cast<size_t>(count));
  rest_.remove_prefix(static_cast<size_t>(count));
  return true;
}

bool ProtoReader::Next() {
  if (rest_.empty() || !ok_) return false;
  constexpr uint64_t kMostNumber = (1 << 29) - 1;
  uint64_t tag = 0, value = 0;
  ok_ = Varint(&tag) && tag >> 3 != 0 && tag >> 3 <= kMostNumber;
  if (!ok_) return false;
  number_ = static_cast<uint32_t>(tag >> 3);
  wire_ = static_cast<uint32_t>(tag & 7);
  switch (wire_) {
    case 0: ok_ = Varint(&value); break;
    case 1: ok_ = Take(8, &bytes_); break;
    case 2: ok_ = Varint(&value) && Take(value, &bytes_); break;
    case 5: ok_ = Take(4, &bytes_); break;
    default: ok_ = false;  // groups, which none of containerd's messages has
  }
  return ok_;
}

void PutVarint(uint32_t number, uint64_t value, std::string* message) {
  Append(static_cast<uint64_t>(number) << 3, message);
  Append(value, message);
}

void PutBytes(uint32_t number, std::string_view bytes, std::string* message) {
  Append(static_cast<uint64_t>(number) << 3 | 2, message);
  Append(bytes.size(), message);
  *message += bytes;
}

}  // namespace thaw
