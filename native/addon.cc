// The addon's table of contents; native/index.ts documents each function.

#include <napi.h>

#include "bridge.h"
#include "chunk.h"
#include "collapse.h"
#include "copy-pages.h"
#include "fifo.h"
#include "file-calls.h"
#include "files.h"
#include "http2.h"
#include "idmap.h"
#include "layer-server/face.h"
#include "loop.h"
#include "mount.h"
#include "namespaces.h"
#include "paths.h"
#include "pidfd.h"
#include "relay.h"
#include "spawn.h"
#include "sys.h"
#include "watch.h"
#include "write-back.h"
#include "terminal.h"
#include "touch-cost.h"
#include "page-server/face.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new thaw::Bridge(env));
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("pidfdOpen", thaw::PidfdOpen);
  add("pidfdSendSignal", thaw::PidfdSendSignal);
  add("pidfdWait", thaw::PidfdWait);
  add("reapZombie", thaw::ReapZombie);
  add("spawn", thaw::Spawn);
  add("signalGroup", thaw::SignalGroup);
  add("memoryFile", thaw::MemoryFile);
  add("setChildSubreaper", thaw::SetChildSubreaper);
  add("children", thaw::Children);
  add("mount", thaw::Mount);
  add("umount", thaw::Umount);
  add("mountOverlay", thaw::MountOverlay);
  add("loopAttach", thaw::LoopAttach);
  add("userNamespace", thaw::UserNamespace);
  add("mountMapped", thaw::MountMapped);
  add("readInNamespaces", thaw::ReadInNamespaces);
  add("writeInNamespaces", thaw::WriteInNamespaces);
  add("networkNamespace", thaw::NetworkNamespace);
  add("loopbackUp", thaw::LoopbackUp);
  add("connectInNamespace", thaw::ConnectInNamespace);
  add("pipe", thaw::Pipe);
  add("duplicate", thaw::Duplicate);
  add("fchown", thaw::Fchown);
  add("trimMemory", thaw::TrimMemory);
  add("makeFifo", thaw::MakeFifo);
  add("fifoRead", thaw::FifoRead);
  add("relayStart", thaw::RelayStart);
  add("relayDrain", thaw::RelayDrain);
  add("relayStop", thaw::RelayStop);
  add("watchCgroupEvent", thaw::WatchCgroupEvent);
  add("watchFile", thaw::WatchFile);
  add("watchOpens", thaw::WatchOpens);
  add("watchStop", thaw::WatchStop);
  add("readFiles", thaw::ReadFiles);
  add("fileCalls", thaw::FileCalls);
  add("http2Open", thaw::Http2Open);
  add("http2Receive", thaw::Http2Receive);
  add("http2Answer", thaw::Http2Answer);
  add("http2Queued", thaw::Http2Queued);
  add("http2Streams", thaw::Http2Streams);
  add("http2Take", thaw::Http2Take);
  add("http2Shutdown", thaw::Http2Shutdown);
  add("consoleListen", thaw::ConsoleListen);
  add("consoleReceive", thaw::ConsoleReceive);
  add("consoleCancel", thaw::ConsoleCancel);
  add("setWindowSize", thaw::SetWindowSize);
  add("peerCredentials", thaw::PeerCredentials);
  add("tryLock", thaw::TryLock);
  add("realtime", thaw::Realtime);
  add("openBeneath", thaw::OpenBeneath);
  add("syncfs", thaw::Syncfs);
  add("writeChunk", thaw::WriteChunk);
  add("writeChunkHere", thaw::WriteChunkHere);
  add("crc32", thaw::Crc32);
  add("decodeLz4", thaw::DecodeLz4);
  add("pageServerStart", thaw::PageServerStart);
  add("pageServerGuard", thaw::PageServerGuard);
  add("pageServerProcess", thaw::PageServerProcess);
  add("pageServerPresent", thaw::PageServerPresent);
  add("pageServerDrain", thaw::PageServerDrain);
  add("pageServerFinish", thaw::PageServerFinish);
  add("pageServerStats", thaw::PageServerStats);
  add("layerServerOpen", thaw::LayerServerOpen);
  add("layerServerStart", thaw::LayerServerStart);
  add("layerServerAdd", thaw::LayerServerAdd);
  add("layerServerRemove", thaw::LayerServerRemove);
  add("layerServerPresent", thaw::LayerServerPresent);
  add("layerServerReads", thaw::LayerServerReads);
  add("layerServerAnswer", thaw::LayerServerAnswer);
  add("layerServerResend", thaw::LayerServerResend);
  add("layerServerStop", thaw::LayerServerStop);
  add("takeDescriptor", thaw::TakeDescriptor);
  add("writeBack", thaw::WriteBack);
  add("collapse", thaw::Collapse);
  add("copyPages", thaw::CopyPages);
  add("touchCost", thaw::TouchCost);
  add("messageSockets", thaw::MessageSockets);
  return exports;
}

}  // namespace

NODE_API_MODULE(thaw, Init)
