// A shared library of the NVIDIA driver, which belongs to the node and may not be there.
#pragma once

#include <dlfcn.h>

#include <string>

namespace thaw {

class Library {
 public:
  // `path` as configured; if empty, `name` where the loader and the usual installers of the driver have it. Empty on
  // success, else what is wrong.
  std::string Open(const std::string& path, const char* name);
  const std::string& path() const { return path_; }

  // Null if this driver has no such function.
  template <typename Function>
  Function Find(const char* name) const {
    // Safe: the caller names the type that the driver documents for the function.
    return handle_ ? reinterpret_cast<Function>(dlsym(handle_, name)) : nullptr;
  }

 private:
  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace thaw
