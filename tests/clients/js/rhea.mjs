// rhea, an engine that shares no code with ours, as a plain AMQP client of the namespace.

import assert from "node:assert/strict";
import { once } from "node:events";
import rhea from "rhea";
import { ENDPOINT, main, newHub, numbered, test, waitFor, within } from "./harness.mjs";

const [host, port] = ENDPOINT.split(":");
const { types, message: messages } = rhea;

async function connected(use, options = {}) {
  const container = rhea.create_container();
  // Without a listener, rhea throws what the other side refuses.
  for (const event of ["sender_error", "receiver_error", "session_error"]) container.on(event, () => {});
  const connection = container.connect({ host, port, reconnect: false, username: "anonymous", ...options });
  await within(once(connection, "connection_open"), "the connection to open");
  try {
    return await use(connection);
  } finally {
    connection.close();
    await within(once(connection, "connection_close"), "the connection to close");
  }
}

const address = (hub, partition = "0") => `${hub}/ConsumerGroups/$default/Partitions/${partition}`;
const selector = (text) => ({ "apache.org:selector-filter:string": types.wrap_described(text, "apache.org:selector-filter:string") });

async function publish(connection, hub, ...sent) {
  const sender = connection.open_sender(hub);
  await within(once(sender, "sendable"), "credit to send");
  for (const one of sent) {
    sender.send(one);
    const [{ delivery }] = await within(
      Promise.race([once(sender, "accepted"), once(sender, "rejected").then(() => Promise.reject(new Error("rejected")))]),
      "the outcome",
    );
    assert.ok(delivery.settled || delivery.remote_settled);
  }
  sender.close();
}

async function read(connection, hub, count, { filter = undefined, credit = 100 } = {}) {
  const source = { address: address(hub), ...(filter && { filter }) };
  const receiver = connection.open_receiver({ source, credit_window: 0, autoaccept: true });
  const received = [];
  const done = new Promise((resolve) =>
    receiver.on("message", ({ message }) => received.push(message) === count && resolve()),
  );
  receiver.add_credit(credit);
  await within(done, `${count} messages`);
  receiver.close();
  return received;
}

test("a_message_there_and_back", () =>
  connected(async (connection) => {
    const hub = await newHub(1);
    const sent = { body: "text", subject: "s", message_id: "m-1", correlation_id: 7, content_type: "text/plain" };
    await publish(connection, hub, sent);
    const [received] = await read(connection, hub, 1);
    for (const [key, value] of Object.entries(sent)) assert.deepEqual(received[key], value, key);
    assert.equal(received.message_annotations["x-opt-sequence-number"], 0);
    assert.ok("x-opt-offset" in received.message_annotations && "x-opt-enqueued-time" in received.message_annotations);
  }));

test("values_of_every_type", () =>
  connected(async (connection) => {
    const hub = await newHub(1);
    const values = {
      null: null, true: true, ubyte: types.wrap_ubyte(255), ushort: types.wrap_ushort(65_535), uint: types.wrap_uint(2 ** 32 - 1),
      ulong: types.wrap_ulong(2 ** 40), byte: types.wrap_byte(-128), short: types.wrap_short(-32_768), int: types.wrap_int(-(2 ** 31)),
      long: types.wrap_long(-(2 ** 40)), float: types.wrap_float(0.5), double: types.wrap_double(1e300),
      timestamp: types.wrap_timestamp(1_700_000_000_123), string: "ü".repeat(200), symbol: types.wrap_symbol("sym"),
      binary: types.wrap_binary(Buffer.alloc(300)), uuid: types.wrap_uuid(Buffer.from("0123456789abcdef")),
      list: types.wrap_list([1, "two", [3]]), map: types.wrap_map({ k: { n: 1 } }),
      array: types.wrap_array([1, 2, 3], types.Int.typecode), described: types.wrap_described("x", "some:type"),
    };
    const plain = (value) => (value?.described ? plain(value.value) : (value?.value ?? value));
    await publish(connection, hub, ...Object.values(values).map((body) => ({ body })));
    const received = await read(connection, hub, Object.keys(values).length);
    // What came back is compared with what rhea itself makes of its own encoding.
    Object.values(values).forEach((body, index) => {
      const expected = messages.decode(messages.encode({ body })).body;
      assert.deepEqual(plain(received[index].body), plain(expected), Object.keys(values)[index]);
    });
  }));

test("bodies_of_sections", () =>
  connected(async (connection) => {
    const hub = await newHub(1);
    await publish(
      connection,
      hub,
      { body: messages.data_section(Buffer.from("one")) },
      { body: messages.data_sections([Buffer.from("a"), Buffer.from("b")]) },
      { body: messages.sequence_section([1, "two"]) },
    );
    const [one, several, sequence] = await read(connection, hub, 3);
    assert.equal(one.body.content.toString(), "one");
    assert.deepEqual(several.body.content.map(String), ["a", "b"]);
    assert.deepEqual(sequence.body.content, [1, "two"]);
  }));

test("large_messages_in_many_frames", () =>
  connected(
    async (connection) => {
      const hub = await newHub(1);
      const body = Buffer.alloc(1_000_000, "0123456789");
      await publish(connection, hub, { body: messages.data_section(body) });
      const [received] = await read(connection, hub, 1);
      assert.ok(body.equals(received.body.content));
    },
    { max_frame_size: 4096 },
  ));

test("selectors", () =>
  connected(async (connection) => {
    const hub = await newHub(1);
    await publish(connection, hub, ...numbered(10).map((body) => ({ body })));
    for (const [text, first] of [
      ["amqp.annotation.x-opt-offset > '-1'", 0],
      ["amqp.annotation.x-opt-sequence-number > '3'", 4],
      ["amqp.annotation.x-opt-sequence-number >= '3'", 3],
    ]) {
      const received = await read(connection, hub, 10 - first, { filter: selector(text) });
      assert.deepEqual(received.map((one) => one.body), numbered(10 - first, first), text);
    }
  }));

test("credit_and_drain", () =>
  connected(async (connection) => {
    const hub = await newHub(1);
    await publish(connection, hub, ...numbered(10).map((body) => ({ body })));
    const receiver = connection.open_receiver({ source: address(hub), credit_window: 0, autoaccept: true });
    const received = [];
    receiver.on("message", ({ message }) => received.push(message.body));
    receiver.add_credit(3);
    await waitFor(() => received.length === 3, "as many messages as there is credit");
    receiver.drain = true;
    receiver.add_credit(100);
    await within(once(receiver, "receiver_drained"), "the drain past its end");
    assert.deepEqual(received, numbered(10));
  }));

test("many_sessions_and_links", () =>
  connected(async (connection) => {
    const hub = await newHub(4);
    const sessions = Array.from({ length: 8 }, () => connection.create_session());
    sessions.forEach((session) => session.open());
    const senders = sessions.flatMap((session) => [0, 1, 2, 3].map((id) => session.open_sender(`${hub}/Partitions/${id}`)));
    await within(Promise.all(senders.map((sender) => once(sender, "sendable"))), "credit on every link");
    const outcomes = senders.map((sender) => once(sender, "accepted"));
    senders.forEach((sender) => sender.send({ body: "x" }));
    await within(Promise.all(outcomes), "every outcome");
  }));

test("what_is_refused_says_why", () =>
  connected(async (connection) => {
    const hub = await newHub(1);
    const refused = async (link, kind) => {
      await within(once(link, `${kind}_error`), "the refusal");
      return link.error.condition;
    };
    assert.equal(await refused(connection.open_sender("no-such-hub"), "sender"), "amqp:not-found");
    await refused(connection.open_receiver(address(hub, "9")), "receiver");
    await refused(connection.open_receiver({ source: { address: address(hub), filter: selector("nonsense = 'x'") } }), "receiver");
    await publish(connection, hub, { body: "fine" });
    assert.equal((await read(connection, hub, 1))[0].body, "fine");
  }));

test("an_idle_connection_is_kept_alive", () =>
  connected(
    async (connection) => {
      const hub = await newHub(1);
      // rhea closes the connection itself when it hears nothing for its idle time-out: only heartbeats get it past three of them.
      const closed = once(connection, "disconnected").then(() => Promise.reject(new Error("the connection was dropped")));
      closed.catch(() => {});
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 3_500))]);
      await publish(connection, hub, { body: "alive" });
    },
    { idle_time_out: 1_000 },
  ));

await main();
