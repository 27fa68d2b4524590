#include "args.h"

#include <climits>
#include <cmath>

namespace thaw {

void Args::Fail(size_t index, const char* expected) {
  if (failed_) return;
  failed_ = true;
  Napi::TypeError::New(info_.Env(),
                       "Cannot use argument " + std::to_string(index + 1) + ", expected " + expected)
      .ThrowAsJavaScriptException();
}

int64_t Args::Integer(size_t index, int64_t least, int64_t most, const char* what) {
  if (failed_) return 0;
  if (info_[index].IsNumber()) {
    const double value = info_[index].As<Napi::Number>().DoubleValue();
    if (std::floor(value) == value && value >= static_cast<double>(least) && value <= static_cast<double>(most))
      return static_cast<int64_t>(value);
  }
  Fail(index, what);
  return 0;
}

int Args::Fd(size_t index) { return static_cast<int>(Integer(index, 0, INT_MAX, "a file descriptor")); }

int Args::Pid(size_t index) { return static_cast<int>(Integer(index, 1, INT_MAX, "a process id")); }

uint32_t Args::Flags(size_t index) {
  return static_cast<uint32_t>(Integer(index, INT32_MIN, UINT32_MAX, "32 flag bits"));
}

bool Args::Boolean(size_t index) {
  if (failed_) return false;
  if (info_[index].IsBoolean()) return info_[index].As<Napi::Boolean>().Value();
  Fail(index, "a boolean");
  return false;
}

bool Args::Text(const Napi::Value& value, std::string* out) {
  if (!value.IsString()) return false;
  *out = value.As<Napi::String>().Utf8Value();
  return out->find('\0') == std::string::npos;
}

std::string Args::String(size_t index) {
  std::string text;
  if (!failed_ && !Text(info_[index], &text)) Fail(index, "a string without NUL characters");
  return text;
}

std::vector<std::string> Args::Strings(size_t index) {
  std::vector<std::string> all;
  if (failed_) return all;
  if (!info_[index].IsArray()) {
    Fail(index, "an array of strings");
    return all;
  }
  const Napi::Array array = info_[index].As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    std::string text;
    if (!Text(array.Get(i), &text)) {
      Fail(index, "an array of strings without NUL characters");
      return {};
    }
    all.push_back(std::move(text));
  }
  return all;
}

std::vector<int> Args::Descriptors(size_t index, size_t most) {
  std::vector<int> all;
  if (failed_) return all;
  const bool is_array = info_[index].IsArray();
  const uint32_t length = is_array ? info_[index].As<Napi::Array>().Length() : 0;
  for (uint32_t i = 0; i < length && length <= most; i++) {
    const Napi::Value value = info_[index].As<Napi::Array>().Get(i);
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -2;
    if (number < -1 || number > INT32_MAX || number != static_cast<double>(static_cast<int>(number))) break;
    all.push_back(static_cast<int>(number));
  }
  if (is_array && all.size() == length) return all;
  Fail(index, "an array of a few descriptors, -1 for none");
  return {};
}

uint64_t Args::Offset(size_t index) {
  if (failed_) return 0;
  if (info_[index].IsBigInt()) {
    bool lossless = false;
    const int64_t value = info_[index].As<Napi::BigInt>().Int64Value(&lossless);
    if (lossless && value >= 0) return static_cast<uint64_t>(value);
  }
  Fail(index, "a bigint from 0 to 2^63-1");
  return 0;
}

std::vector<uint64_t> Args::Numbers(size_t index, size_t record) {
  if (failed_) return {};
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (info_[index].IsTypedArray() &&
      napi_get_typedarray_info(info_.Env(), info_[index], &type, &length, &data, nullptr, nullptr) == napi_ok &&
      type == napi_biguint64_array && length % record == 0) {
    const auto* const numbers = static_cast<const uint64_t*>(data);
    return {numbers, numbers + length};
  }
  Fail(index, "a BigUint64Array of whole records");
  return {};
}

Bytes Args::Uint8Array(size_t index) {
  if (failed_) return {};
  if (info_[index].IsTypedArray()) {
    napi_typedarray_type type;
    size_t length;
    void* data;
    if (napi_get_typedarray_info(info_.Env(), info_[index], &type, &length, &data, nullptr, nullptr) == napi_ok &&
        type == napi_uint8_array)
      return {static_cast<const uint8_t*>(data), length};
  }
  Fail(index, "a Uint8Array");
  return {};
}

Napi::Function Args::Function(size_t index) {
  if (!failed_ && info_[index].IsFunction()) return info_[index].As<Napi::Function>();
  Fail(index, "a function");
  return {};
}

}  // namespace thaw
