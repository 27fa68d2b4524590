#include "errors.h"

#include <string.h>

#include <cctype>

namespace thaw {
namespace {

// strerrorname_np and strerrordesc_np (glibc 2.32) read static tables: no locale, no allocation, any thread.
std::string CodeOf(int error) {
  const char* name = strerrorname_np(error);
  return name ? name : "E" + std::to_string(error);
}

std::string DescriptionOf(int error) {
  const char* text = strerrordesc_np(error);
  std::string description = text ? text : "unknown error";
  description[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(description[0])));
  return description;
}

}  // namespace

Napi::Value ToError(Napi::Env env, const Failure& failure) {
  const std::string code = CodeOf(failure.error);
  std::string message = code + ": " + DescriptionOf(failure.error);
  if (*failure.syscall) message += std::string(", ") + failure.syscall;
  if (!failure.path.empty()) message += " '" + failure.path + "'";
  if (!failure.detail.empty()) message += (*failure.syscall ? ": " : ", ") + failure.detail;

  Napi::Object error = Napi::Error::New(env, message).Value();
  error.Set("errno", Napi::Number::New(env, -failure.error));
  error.Set("code", Napi::String::New(env, code));
  if (*failure.syscall) error.Set("syscall", Napi::String::New(env, failure.syscall));
  if (!failure.path.empty()) error.Set("path", Napi::String::New(env, failure.path));
  return error;
}

Napi::Value Throw(Napi::Env env, const Failure& failure) {
  napi_throw(env, ToError(env, failure));
  return env.Undefined();
}

}  // namespace thaw
