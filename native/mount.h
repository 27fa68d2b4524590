// mount(2), umount2(2), and overlay mounts of any number of layers.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value Mount(const Napi::CallbackInfo& info);
Napi::Value Umount(const Napi::CallbackInfo& info);
Napi::Value MountOverlay(const Napi::CallbackInfo& info);

}  // namespace thaw
