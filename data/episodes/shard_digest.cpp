#include <algorithm>
#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <openssl/evp.h>

#include "data/episodes/episode_index.h"
#include "data/errors.h"
#include "data/shards/tar_index.h"

namespace espalier {
namespace {

constexpr int64_t kPiece = int64_t{1} << 20;

std::string sha256_of(const ReadOnlyFile& file) {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  bool is_good = context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  std::vector<uint8_t> buffer(kPiece);
  for (int64_t offset = 0; is_good && offset < file.size(); offset += kPiece) {
    const int64_t bytes = std::min(kPiece, file.size() - offset);
    file.read(offset, buffer.data(), bytes);
    is_good = EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(bytes)) == 1;
  }
  std::array<uint8_t, 32> digest{};
  if (!is_good || EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1)
    throw std::runtime_error("SHA-256 of " + file.path() + ": libcrypto refused");
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : digest) text += {kDigits[byte >> 4], kDigits[byte & 15]};
  return text;
}

}  // namespace

void check_digest(const EpisodeShard& shard) {
  const std::string digest = sha256_of(ReadOnlyFile(shard.path));
  if (digest == shard.sha256) return;
  throw DataError(shard.path + ": SHA-256 " + digest + "; the index says " + shard.sha256 +
                  ": the shard is damaged or of another data set. Fetch the data set again, or "
                  "prepare it again.");
}

}  // namespace espalier
