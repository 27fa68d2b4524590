// Failures in the shape of Node's own: "ENOENT: no such file or directory, open '/x'" with code, errno (negative),
// syscall and path.
#pragma once

#include <napi.h>

#include <string>

namespace thaw {

// What went wrong, kept apart from JavaScript so that any thread can fill it.
struct Failure {
  int error = 0;              // positive errno; 0 means success
  const char* syscall = "";   // static string
  std::string path;           // empty when there is none
  std::string detail;         // what the kernel or a check said beyond the errno; may be empty

  explicit operator bool() const { return error != 0; }
};

Napi::Value ToError(Napi::Env env, const Failure& failure);

// Throws into JavaScript; the caller returns right after. Reads no errno itself: pass it.
Napi::Value Throw(Napi::Env env, const Failure& failure);

}  // namespace thaw
