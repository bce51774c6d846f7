#include "launch/protocol/handshake.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "trainer/errors.h"

namespace espalier {
namespace {

RoleTokens workers(const SecretKey& token) { return {token, random_key(), random_key()}; }

TEST(Handshake, GivesBothSidesTheSameKeysAndDifferentOnesByDirection) {
  const SecretKey token = random_key();
  WorkerHandshake worker(token, 2, 1, HelloMessage{42});
  CoordinatorHandshake coordinator(workers(token));

  coordinator.check(worker.answer(coordinator.challenge(worker.hello())));

  EXPECT_EQ(worker.keys().to_coordinator, coordinator.keys().to_coordinator);
  EXPECT_EQ(worker.keys().to_worker, coordinator.keys().to_worker);
  EXPECT_NE(worker.keys().to_worker, worker.keys().to_coordinator);
}

TEST(Handshake, MakesTheWorkerRefuseACoordinatorWithTheWrongToken) {
  WorkerHandshake worker(random_key(), 1, 0, HelloMessage{});
  CoordinatorHandshake impostor(workers(random_key()));
  EXPECT_THROW(worker.answer(impostor.challenge(worker.hello())), FrameError);
}

TEST(Handshake, MakesTheCoordinatorRefuseAWorkerWithTheWrongToken) {
  const SecretKey token = random_key();
  WorkerHandshake worker(token, 1, 0, HelloMessage{});
  CoordinatorHandshake coordinator(workers(token));
  const Frame challenge = coordinator.challenge(worker.hello());
  Frame guessed = worker.answer(challenge);
  guessed.payload = nlohmann::json{{"proof", to_hex(random_key())}}.dump();
  EXPECT_THROW(coordinator.check(guessed), FrameError);
}

TEST(Handshake, RefusesARecordedHandshake) {
  const SecretKey token = random_key();
  WorkerHandshake worker(token, 1, 0, HelloMessage{});
  CoordinatorHandshake first(workers(token));
  const Frame proof = worker.answer(first.challenge(worker.hello()));
  first.check(proof);

  CoordinatorHandshake second(workers(token));
  second.challenge(worker.hello());
  EXPECT_THROW(second.check(proof), FrameError);
}

TEST(Handshake, BindsGenerationAndRankIntoTheProof) {
  const SecretKey token = random_key();
  WorkerHandshake worker(token, 1, 0, HelloMessage{});
  Frame altered = worker.hello();
  altered.generation = 2;
  CoordinatorHandshake coordinator(workers(token));
  EXPECT_THROW(worker.answer(coordinator.challenge(altered)), FrameError);
}

TEST(Handshake, RefusesStepsOutOfOrder) {
  CoordinatorHandshake coordinator(workers(random_key()));
  EXPECT_THROW(coordinator.check({MessageType::kProof, 1, 0, 1, "{}"}), FrameError);
  EXPECT_THROW(coordinator.challenge({MessageType::kBeat, 1, 0, 0, "{}"}), FrameError);
  EXPECT_THROW(coordinator.challenge({MessageType::kHello, 1, 0, 0, R"({"nonce":"12"})"}),
               FrameError);
}

TEST(ParsePayload, RefusesWhatIsNotAShallowObject) {
  EXPECT_THROW(parse_payload("[1]"), FrameError);
  EXPECT_THROW(parse_payload("{\"a\":"), FrameError);
  std::string deep = R"({"a":)" + std::string(40, '[') + std::string(40, ']') + "}";
  EXPECT_THROW(parse_payload(deep), FrameError);
}

class TokenFile : public testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        std::filesystem::path(testing::TempDir()) / ("token-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
    path_ = directory_ / "token";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::filesystem::path directory_;
  std::filesystem::path path_;
};

TEST_F(TokenFile, IsMadeOnceAndReadableByItsOwnerOnly) {
  const SecretKey made = load_or_create_token(path_);
  EXPECT_EQ(load_or_create_token(path_), made);
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(TokenFile, IsRefusedWhenOthersCanReadIt) {
  load_or_create_token(path_);
  ::chmod(path_.c_str(), 0644);
  EXPECT_THROW(load_token(path_), ConfigError);  // exit 64: the user's to mend
}

TEST_F(TokenFile, IsRefusedWhenItIsASymbolicLink) {
  load_or_create_token(path_);
  std::filesystem::create_symlink(path_, directory_ / "link");
  EXPECT_THROW(load_token(directory_ / "link"), std::runtime_error);
}

}  // namespace
}  // namespace espalier
