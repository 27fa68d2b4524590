#include "chunk.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <lz4.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>

#include "args.h"
#include "errors.h"
#include "fd.h"
#include "planes.h"
#include "promised-work.h"

// The node executable exports its own OpenSSL and zstd (on x64 and arm64), without headers in every package. These
// prototypes are those of openssl/evp.h (1.1 to 3) and zstd.h (1.0 on). Its zlib would do for CRC-32 too, but takes as long
// for that as SHA-256 does with the processor's help: libdeflate has carry-less multiplication.
extern "C" {
struct evp_md_st;
const evp_md_st* EVP_sha256(void);
int EVP_Digest(const void* data, size_t count, unsigned char* digest, unsigned int* size, const evp_md_st* type,
               void* engine);
size_t ZSTD_decompress(void* into, size_t capacity, const void* stored, size_t length);
}

namespace thaw {
namespace {

constexpr size_t kDigest = 32;
// Chunks are 1 MiB at most; the bound keeps a forged length from taking the node's memory.
constexpr int64_t kLargestChunk = 16 << 20;

// As checkpoint/chunk-table.ts has them in records; 0 is an LZ4 block, or the bytes as they are.
enum Codec : int64_t { kLz4 = 0, kZstd = 1, kPlanesOfWords = 2 };

Failure Bad(std::string what) { return {EBADMSG, "", {}, std::move(what)}; }

bool Decode(Bytes stored, uint8_t* into, size_t length) {
  // Safe for hostile input: never writes beyond `length` nor reads beyond the source (LZ4_decompress_safe).
  const int decoded = LZ4_decompress_safe(reinterpret_cast<const char*>(stored.data), reinterpret_cast<char*>(into),
                                          static_cast<int>(stored.length), static_cast<int>(length));
  return decoded >= 0 && static_cast<size_t>(decoded) == length;
}

bool DecodeFrame(Bytes stored, uint8_t* into, size_t length) {
  // Safe for hostile input: never writes beyond `length`, and decodes straight into place, so that no window that the
  // frame asks for is allocated. An error is larger than any length.
  return ZSTD_decompress(into, length, stored.data, stored.length) == length;
}

// A buffer of one thread, kept between chunks: mapping a fresh one costs as much as decoding into it.
class Scratch {
 public:
  uint8_t* Of(size_t length) {
    static constexpr size_t kKept = 1 << 20;
    large_.reset();
    if (length > kKept) {
      large_.reset(new uint8_t[length]);
      return large_.get();
    }
    if (!kept_) kept_.reset(new uint8_t[kKept]);
    return kept_.get();
  }

 private:
  std::unique_ptr<uint8_t[]> kept_, large_;
};

thread_local Scratch decoded_bytes, plane_bytes;

uint32_t LittleEndian(const uint8_t* at) {
  return static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16 |
         static_cast<uint32_t>(at[3]) << 24;
}

// Four lengths, then the planes: each as it is, or, where it is shorter, one zstd frame. Every length is checked against
// what is left of `stored` before it is used, and nothing may be left behind the last one.
bool DecodePlanes(Bytes stored, uint8_t* into, size_t length) {
  size_t at = kPlanes * sizeof(uint32_t);
  if (length % kPlanes != 0 || stored.length < at) return false;
  const size_t count = length / kPlanes;
  uint8_t* const buffer = plane_bytes.Of(length);
  const uint8_t* planes[kPlanes];
  for (size_t i = 0; i < kPlanes; i++) {
    const size_t size = LittleEndian(stored.data + i * sizeof(uint32_t));
    if (size == 0 || size > count || size > stored.length - at) return false;
    const Bytes plane{stored.data + at, size};
    planes[i] = plane.data;
    if (size < count) {
      planes[i] = buffer + i * count;
      if (!DecodeFrame(plane, buffer + i * count, count)) return false;
    }
    at += size;
  }
  if (at != stored.length) return false;
  JoinPlanes(planes, count, into);
  return true;
}

struct Chunk : PromisedWork {
  UniqueFd fd;  // a duplicate: the caller may close its own at any time
  uint64_t offset;
  Bytes stored;
  size_t length;
  std::array<uint8_t, kDigest> digest;
  uint32_t checksum;
  Codec codec;
  Napi::Reference<Napi::Value> bytes;  // keeps `stored` alive

  Failure Run() override {
    std::array<uint8_t, kDigest> actual;
    if (EVP_Digest(stored.data, stored.length, actual.data(), nullptr, EVP_sha256(), nullptr) != 1)
      return {ENOTSUP, "EVP_Digest", {}, "SHA-256 is not available"};
    if (actual != digest) return Bad("the stored bytes do not match their SHA-256 digest");

    const uint8_t* data = stored.data;
    if (codec != kLz4 || stored.length != length) {
      if (codec == kLz4 && stored.length > length) return Bad("the stored bytes are longer than the decoded length");
      uint8_t* const buffer = decoded_bytes.Of(length);
      if (const char* const form = Undecodable(buffer))
        return Bad(std::string("the stored bytes are no ") + form + " of " + std::to_string(length) + " decoded bytes");
      data = buffer;
    }
    if (libdeflate_crc32(0, data, length) != checksum)
      return Bad("the decoded bytes do not match their CRC-32");

    for (size_t done = 0; done < length;) {
      // Safe: `data` holds `length` checked bytes, and the descriptor is this chunk's own.
      const ssize_t count =
          pwrite(fd.get(), data + done, length - done, static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return {errno, "pwrite", {}, {}};
      if (count == 0) return {ENOSPC, "pwrite", {}, {}};
      done += static_cast<size_t>(count);
    }
    return {};
  }

 private:
  // Null, or the name of what the stored bytes are not.
  const char* Undecodable(uint8_t* into) const {
    switch (codec) {
      case kLz4:
        return Decode(stored, into, length) ? nullptr : "LZ4 block";
      case kZstd:
        return DecodeFrame(stored, into, length) ? nullptr : "zstd frame";
      case kPlanesOfWords:
        return DecodePlanes(stored, into, length) ? nullptr : "planes";
    }
    return "known form";
  }
};

// Null, with an exception pending, for arguments that are none.
std::unique_ptr<Chunk> ChunkOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int fd = args.Fd(0);
  auto chunk = std::make_unique<Chunk>();
  chunk->offset = args.Offset(1);
  chunk->stored = args.Uint8Array(2);
  chunk->length = static_cast<size_t>(args.Integer(3, 1, kLargestChunk, "a decoded length from 1 to 16777216"));
  const Bytes digest = args.Uint8Array(4);
  chunk->checksum = static_cast<uint32_t>(args.Integer(5, 0, UINT32_MAX, "an unsigned CRC-32"));
  chunk->codec = info.Length() > 6 ? static_cast<Codec>(args.Integer(6, kLz4, kPlanesOfWords, "a codec from 0 to 2")) : kLz4;
  if (!args.ok()) return {};
  if (digest.length != kDigest) {
    Napi::TypeError::New(env, "Cannot use argument 5, expected 32 bytes").ThrowAsJavaScriptException();
    return {};
  }
  memcpy(chunk->digest.data(), digest.data, kDigest);
  chunk->fd = UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!chunk->fd.valid()) {
    Throw(env, {errno, "fcntl", {}, {}});
    return {};
  }
  return chunk;
}

}  // namespace

Napi::Value WriteChunk(const Napi::CallbackInfo& info) {
  std::unique_ptr<Chunk> chunk = ChunkOf(info);
  if (!chunk) return info.Env().Undefined();
  chunk->bytes = Napi::Reference<Napi::Value>::New(info[2], 1);
  return PromisedWork::Queue(info.Env(), "thaw:chunk", std::move(chunk));
}

Napi::Value WriteChunkHere(const Napi::CallbackInfo& info) {
  const std::unique_ptr<Chunk> chunk = ChunkOf(info);
  if (!chunk) return info.Env().Undefined();
  if (const Failure failure = chunk->Run()) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Value DecodeLz4(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const Bytes stored = args.Uint8Array(0);
  const auto length = static_cast<size_t>(args.Integer(1, 1, kLargestChunk, "a decoded length from 1 to 16777216"));
  if (!args.ok()) return env.Undefined();
  Napi::Buffer<uint8_t> decoded = Napi::Buffer<uint8_t>::New(env, length);
  if (stored.length > INT32_MAX || !Decode(stored, decoded.Data(), length))
    return Throw(env, Bad("the bytes are no LZ4 block of " + std::to_string(length) + " decoded bytes"));
  return decoded;
}

Napi::Value Crc32(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes bytes = args.Uint8Array(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), libdeflate_crc32(0, bytes.data, bytes.length));
}

}  // namespace thaw
