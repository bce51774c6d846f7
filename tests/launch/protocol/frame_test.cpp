#include "launch/protocol/frame.h"

#include <gtest/gtest.h>

#include <random>

#include "launch/protocol/handshake.h"

namespace espalier {
namespace {

Frame sample_frame(std::mt19937& rng, uint64_t sequence) {
  Frame frame;
  frame.type = static_cast<MessageType>(1 + rng() % static_cast<uint32_t>(MessageType::kLast));
  frame.generation = rng();
  frame.rank = rng();
  frame.sequence = sequence;
  frame.payload.resize(rng() % 300);
  for (char& c : frame.payload) c = static_cast<char>(rng());
  return frame;
}

bool same(const Frame& a, const Frame& b) {
  return a.type == b.type && a.generation == b.generation && a.rank == b.rank &&
         a.sequence == b.sequence && a.payload == b.payload;
}

TEST(FrameReader, GivesBackTheSameFramesHoweverTheBytesAreSplit) {
  std::mt19937 rng(1);
  for (int round = 0; round < 200; ++round) {
    const bool sealed = round % 2 == 0;
    const SecretKey key = random_key();
    FrameReader reader;
    if (sealed) reader.expect_seals(key);
    std::vector<Frame> sent;
    std::string wire;
    for (uint64_t i = 0; i < 10; ++i) {
      sent.push_back(sample_frame(rng, i));
      wire += encode_frame(sent.back(), sealed ? &key : nullptr);
    }
    std::vector<Frame> received;
    for (size_t at = 0; at < wire.size();) {
      const size_t piece = std::min<size_t>(wire.size() - at, 1 + rng() % 90);
      reader.append(std::string_view(wire).substr(at, piece));
      at += piece;
      while (auto frame = reader.next()) received.push_back(*frame);
    }
    ASSERT_EQ(received.size(), sent.size());
    for (size_t i = 0; i < sent.size(); ++i) EXPECT_TRUE(same(received[i], sent[i]));
  }
}

TEST(FrameReader, NeverAcceptsGarbage) {
  std::mt19937 rng(2);
  for (int round = 0; round < 2000; ++round) {
    std::string garbage(kFrameHeaderBytes + rng() % 100, '\0');
    for (char& c : garbage) c = static_cast<char>(rng());
    FrameReader reader;
    reader.expect_seals(random_key());
    reader.append(garbage);
    try {
      EXPECT_FALSE(reader.next().has_value());
    } catch (const FrameError&) {
    }
  }
}

TEST(FrameReader, RefusesEveryFlippedBitOfASealedFrame) {
  const SecretKey key = random_key();
  const std::string wire = encode_frame({MessageType::kBeat, 3, 1, 0, R"({"step":4})"}, &key);
  for (size_t bit = 0; bit < 8 * wire.size(); ++bit) {
    std::string damaged = wire;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    FrameReader reader;
    reader.expect_seals(key);
    reader.append(damaged);
    try {
      EXPECT_FALSE(reader.next().has_value()) << "bit " << bit;
    } catch (const FrameError&) {
    }
  }
}

TEST(FrameReader, RefusesAnOversizedFrameFromItsHeaderAlone) {
  Frame frame{MessageType::kHello, 1, 0, 0, std::string(kMaxPayloadBeforeProof + 1, 'x')};
  FrameReader reader;
  reader.append(std::string_view(encode_frame(frame)).substr(0, kFrameHeaderBytes));
  EXPECT_THROW(reader.next(), FrameError);
}

TEST(FrameReader, RefusesAnotherProtocolAtTheSecondByte) {
  FrameReader reader;
  reader.append("GE");
  EXPECT_THROW(reader.next(), FrameError);
}

TEST(FrameReader, RefusesUnknownTypesAndVersions) {
  std::string type = encode_frame({});
  type[3] = static_cast<char>(static_cast<int>(MessageType::kLast) + 1);
  std::string version = encode_frame({});
  version[2] = 9;
  for (const std::string& wire : {type, version}) {
    FrameReader reader;
    reader.append(wire);
    EXPECT_THROW(reader.next(), FrameError);
  }
}

TEST(FrameReader, RefusesAReplayedFrame) {
  const SecretKey key = random_key();
  const std::string wire = encode_frame({MessageType::kBeat, 1, 0, 0, "{}"}, &key);
  FrameReader reader;
  reader.expect_seals(key);
  reader.append(wire + wire);
  EXPECT_TRUE(reader.next().has_value());
  EXPECT_THROW(reader.next(), FrameError);
}

}  // namespace
}  // namespace espalier
