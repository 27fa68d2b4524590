#include "http2.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "args.h"
#include "errors.h"

namespace thaw {
namespace {

// Not sent in one piece, so that a long answer does not lie here twice.
constexpr size_t kMostTaken = 256 << 10;

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Stream {
  std::string path;
  // Name, NUL, value, NUL, and so on: a field has no NUL.
  std::string fields;
  std::string body;
  bool body_too_large = false;
  bool answered = false;
  // What waits to be sent, from `sent` on.
  std::string out;
  size_t sent = 0;
  bool ended = false;
  Fields trailers;
};

struct Connection {
  nghttp2_session* session = nullptr;
  size_t largest_body = 0;
  std::unordered_map<int32_t, Stream> streams;
  // Whole requests, and streams that ended before their answer did.
  std::vector<int32_t> requests, lost;

  ~Connection() { nghttp2_session_del(session); }

  Stream* Find(int32_t id) {
    const auto found = streams.find(id);
    return found == streams.end() ? nullptr : &found->second;
  }
};

Connection* Of(void* user) { return static_cast<Connection*>(user); }

int OnBeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
    Of(user)->streams.try_emplace(frame->hd.stream_id);
  return 0;
}

int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_length, const uint8_t* value,
             size_t value_length, uint8_t, void* user) {
  Stream* const stream = Of(user)->Find(frame->hd.stream_id);
  // nghttp2 bounds all fields of a request together (64 KiB), and has checked what they are made of.
  if (stream == nullptr || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  const std::string key(reinterpret_cast<const char*>(name), name_length);
  const std::string text(reinterpret_cast<const char*>(value), value_length);
  if (key == ":path") stream->path = text;
  stream->fields.append(key).push_back('\0');
  stream->fields.append(text).push_back('\0');
  return 0;
}

int OnData(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t length, void* user) {
  Stream* const stream = Of(user)->Find(id);
  if (stream == nullptr || stream->body_too_large) return 0;
  if (length > Of(user)->largest_body - stream->body.size()) {
    stream->body_too_large = true;
    std::string().swap(stream->body);
  } else {
    stream->body.append(reinterpret_cast<const char*>(data), length);
  }
  return 0;
}

int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  const bool may_end = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
  if (may_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && Of(user)->Find(frame->hd.stream_id) != nullptr)
    Of(user)->requests.push_back(frame->hd.stream_id);
  return 0;
}

int OnClose(nghttp2_session*, int32_t id, uint32_t, void* user) {
  Connection* const connection = Of(user);
  const auto found = connection->streams.find(id);
  if (found == connection->streams.end()) return 0;
  if (!found->second.ended) connection->lost.push_back(id);
  connection->streams.erase(found);
  return 0;
}

std::vector<nghttp2_nv> Pairs(const Fields& fields) {
  std::vector<nghttp2_nv> pairs;
  for (const auto& [name, value] : fields)
    pairs.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                     reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                     NGHTTP2_NV_FLAG_NONE});
  return pairs;
}

ssize_t OnRead(nghttp2_session* session, int32_t id, uint8_t* buffer, size_t length, uint32_t* flags, nghttp2_data_source*,
               void* user) {
  Stream* const stream = Of(user)->Find(id);
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const size_t count = std::min(length, stream->out.size() - stream->sent);
  memcpy(buffer, stream->out.data() + stream->sent, count);
  stream->sent += count;
  if (stream->sent < stream->out.size()) return static_cast<ssize_t>(count);
  stream->out.clear();
  stream->sent = 0;
  if (stream->ended) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const std::vector<nghttp2_nv> pairs = Pairs(stream->trailers);
    if (nghttp2_submit_trailer(session, id, pairs.data(), pairs.size()) != 0)
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  } else if (count == 0) {
    return NGHTTP2_ERR_DEFERRED;
  }
  return static_cast<ssize_t>(count);
}

Connection* Handle(const Napi::CallbackInfo& info) {
  if (info[0].IsExternal()) return info[0].As<Napi::External<Connection>>().Data();
  Napi::TypeError::New(info.Env(), "Cannot use argument 1, expected what http2Open answered").ThrowAsJavaScriptException();
  return nullptr;
}

// Name, value, name, value.
Fields Paired(const std::vector<std::string>& strings) {
  Fields fields;
  for (size_t i = 0; i + 1 < strings.size(); i += 2) fields.emplace_back(strings[i], strings[i + 1]);
  return fields;
}

Napi::Value Broken(Napi::Env env, const char* syscall, int code) {
  return Throw(env, {EPROTO, syscall, {}, nghttp2_strerror(code)});
}

Napi::String Latin1(Napi::Env env, const std::string& text) {
  napi_value value = nullptr;
  napi_create_string_latin1(env, text.data(), text.size(), &value);
  return Napi::String(env, value);
}

}  // namespace

Napi::Value Http2Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  auto connection = std::make_unique<Connection>();
  connection->largest_body = static_cast<size_t>(args.Integer(0, 0, INT32_MAX, "a number of bytes"));
  if (!args.ok()) return env.Undefined();
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) return Throw(env, {ENOMEM, "nghttp2_session_callbacks_new", {}, {}});
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, OnBeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
  const int made = nghttp2_session_server_new(&connection->session, callbacks, connection.get());
  nghttp2_session_callbacks_del(callbacks);
  if (made != 0) return Broken(env, "nghttp2_session_server_new", made);
  const int said = nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, nullptr, 0);
  if (said != 0) return Broken(env, "nghttp2_submit_settings", said);
  return Napi::External<Connection>::New(env, connection.release(),
                                         [](Napi::Env, Connection* ended) { delete ended; });
}

Napi::Value Http2Receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Connection* const connection = Handle(info);
  if (connection == nullptr) return env.Undefined();
  Args args(info);
  const Bytes bytes = args.Uint8Array(1);
  if (!args.ok()) return env.Undefined();
  const ssize_t used = nghttp2_session_mem_recv(connection->session, bytes.data, bytes.length);
  if (used < 0) return Broken(env, "nghttp2_session_mem_recv", static_cast<int>(used));
  Napi::Array found = Napi::Array::New(env);
  uint32_t at = 0;
  for (const int32_t id : connection->requests) {
    Stream* const stream = connection->Find(id);
    // It was given up in the same bytes.
    if (stream == nullptr) continue;
    found.Set(at++, Napi::Number::New(env, id));
    found.Set(at++, Latin1(env, stream->path));
    found.Set(at++, Latin1(env, stream->fields));
    if (stream->body_too_large)
      found.Set(at++, env.Null());
    else
      found.Set(at++, Napi::Buffer<char>::Copy(env, stream->body.data(), stream->body.size()));
    std::string().swap(stream->body);
    std::string().swap(stream->fields);
  }
  connection->requests.clear();
  for (const int32_t id : connection->lost) {
    found.Set(at++, Napi::Number::New(env, id));
    for (int i = 0; i < 3; i++) found.Set(at++, env.Null());
  }
  connection->lost.clear();
  return found;
}

Napi::Value Http2Answer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Connection* const connection = Handle(info);
  if (connection == nullptr) return env.Undefined();
  Args args(info);
  const auto id = static_cast<int32_t>(args.Integer(1, 1, INT32_MAX, "a stream's number"));
  const Fields headers = Paired(args.Strings(2));
  const Bytes message = info[3].IsUndefined() ? Bytes{} : args.Uint8Array(3);
  const bool ends = !info[4].IsUndefined();
  Fields trailers = ends ? Paired(args.Strings(4)) : Fields{};
  if (!args.ok()) return env.Undefined();
  Stream* const stream = connection->Find(id);
  if (stream == nullptr || stream->ended) return env.Undefined();
  if (message.length > 0) stream->out.append(reinterpret_cast<const char*>(message.data), message.length);
  if (ends) {
    stream->ended = true;
    stream->trailers = std::move(trailers);
  }
  int result;
  if (stream->answered) {
    result = nghttp2_session_resume_data(connection->session, id);
    // It was not waiting for more.
    if (result == NGHTTP2_ERR_INVALID_ARGUMENT) result = 0;
  } else {
    stream->answered = true;
    const bool alone = ends && stream->out.empty();
    Fields all = headers;
    if (alone) all.insert(all.end(), stream->trailers.begin(), stream->trailers.end());
    const std::vector<nghttp2_nv> pairs = Pairs(all);
    nghttp2_data_provider provider{};
    provider.read_callback = OnRead;
    result = nghttp2_submit_response(connection->session, id, pairs.data(), pairs.size(), alone ? nullptr : &provider);
  }
  if (result != 0) return Broken(env, "nghttp2_submit_response", result);
  return env.Undefined();
}

Napi::Value Http2Queued(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Connection* const connection = Handle(info);
  if (connection == nullptr) return env.Undefined();
  Args args(info);
  const auto id = static_cast<int32_t>(args.Integer(1, 1, INT32_MAX, "a stream's number"));
  if (!args.ok()) return env.Undefined();
  const Stream* const stream = connection->Find(id);
  return Napi::Number::New(env, stream == nullptr ? 0 : static_cast<double>(stream->out.size() - stream->sent));
}

Napi::Value Http2Take(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Connection* const connection = Handle(info);
  if (connection == nullptr) return env.Undefined();
  std::string bytes;
  while (bytes.size() < kMostTaken) {
    const uint8_t* data = nullptr;
    const ssize_t count = nghttp2_session_mem_send(connection->session, &data);
    if (count < 0) return Broken(env, "nghttp2_session_mem_send", static_cast<int>(count));
    if (count == 0) break;
    bytes.append(reinterpret_cast<const char*>(data), static_cast<size_t>(count));
  }
  if (bytes.empty()) return env.Undefined();
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value Http2Streams(const Napi::CallbackInfo& info) {
  Connection* const connection = Handle(info);
  if (connection == nullptr) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(connection->streams.size()));
}

Napi::Value Http2Shutdown(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Connection* const connection = Handle(info);
  if (connection == nullptr) return env.Undefined();
  const int32_t last = nghttp2_session_get_last_proc_stream_id(connection->session);
  const int result = nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
  if (result != 0) return Broken(env, "nghttp2_submit_goaway", result);
  return env.Undefined();
}

}  // namespace thaw
