// Many small files of the kernel's at once, off the event loop.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value ReadFiles(const Napi::CallbackInfo& info);

}  // namespace thaw
