// Device nodes of GPUs in a restored container. Its /dev comes from the checkpoint, with the nodes of the GPUs it had then.
#pragma once

#include <string>

namespace thaw {

// Makes /dev/<name> of the process's root a character device, in place of whatever has that name. `name` begins with
// "nvidia". Empty on success, else what is wrong.
std::string MakeDeviceNode(int pid, const std::string& name, unsigned major, unsigned minor);

}  // namespace thaw
