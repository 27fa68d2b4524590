// The little of protobuf's wire format that the launcher needs. Source: protobuf.dev, "Encoding".
#pragma once

#include <stdint.h>

#include <string>
#include <string_view>

namespace thaw {

// Walks the fields of one message; every length is checked against what is left.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) : rest_(message) {}

  // False at the end, or where the bytes are no message: see ok().
  bool Next();
  bool ok() const { return ok_; }

  // True for a length-delimited field (bytes, text, message) of that number; then bytes() is its content.
  bool Bytes(uint32_t number) const { return number_ == number && wire_ == 2; }
  std::string_view bytes() const { return bytes_; }

 private:
  bool Varint(uint64_t* value);
  bool Take(uint64_t count, std::string_view* bytes);

  std::string_view rest_;
  std::string_view bytes_;
  uint32_t number_ = 0;
  uint32_t wire_ = 0;
  bool ok_ = true;
};

void PutVarint(uint32_t number, uint64_t value, std::string* message);
void PutBytes(uint32_t number, std::string_view bytes, std::string* message);

}  // namespace thaw
