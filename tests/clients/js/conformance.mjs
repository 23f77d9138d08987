// The official JavaScript client against the namespace: every form of sending, receiving, and failing.

import assert from "node:assert/strict";
import {
  EventHubBufferedProducerClient,
  EventHubConsumerClient,
  EventHubProducerClient,
  earliestEventPosition,
  latestEventPosition,
} from "@azure/event-hubs";
// Not part of the client's interface: its own implementation of the service's hash of partition keys.
import { mapPartitionKeyToId } from "./node_modules/@azure/event-hubs/dist/esm/impl/partitionKeyToIdMapper.js";
import { connectionString, control, fault, main, newHub, numbered, test, waitFor, within } from "./harness.mjs";

// The client notices that a message on its way got lost only by waiting for its answer, a minute unless told otherwise.
const once = { retryOptions: { maxRetries: 0, timeoutInMs: 5_000 } };
const quick = { retryOptions: { retryDelayInMs: 100, timeoutInMs: 5_000 } };

async function withProducer(hub, use, options = {}) {
  const client = new EventHubProducerClient(connectionString(hub), options);
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

async function withConsumer(hub, use, { group = "$Default", ...options } = {}) {
  const client = new EventHubConsumerClient(group, connectionString(hub), options);
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

const send = (hub, bodies, where = {}) =>
  withProducer(hub, async (client) => {
    const batch = await client.createBatch(where);
    for (const body of bodies) assert.ok(batch.tryAdd({ body }));
    await client.sendBatch(batch);
  });

/** Collects what a subscription is handed. */
class Reader {
  events = [];
  errors = [];

  constructor(client, { partition, ...options } = {}) {
    const handlers = {
      processEvents: async (events, context) => {
        this.events.push(...events.map((event) => ({ ...event, partition: context.partitionId })));
        this.last = context.lastEnqueuedEventProperties;
      },
      processError: async (error) => this.errors.push(error),
    };
    const all = { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1, ...options };
    this.subscription =
      partition === undefined ? client.subscribe(handlers, all) : client.subscribe(partition, handlers, all);
  }

  async take(count) {
    await waitFor(() => this.events.length >= count, `${count} events (errors: ${this.errors.map((e) => e.message)})`);
    return this.events.slice(0, count);
  }

  async error() {
    await waitFor(() => this.errors.length > 0, "an error");
    return this.errors[0];
  }
}

const reading = (hub, use, options = {}, client = {}) =>
  withConsumer(
    hub,
    async (consumer) => {
      const reader = new Reader(consumer, options);
      try {
        return await use(reader);
      } finally {
        await reader.subscription.close();
      }
    },
    client,
  );

const read = (hub, count, options = {}, client = {}) =>
  reading(hub, (reader) => reader.take(count), { partition: "0", ...options }, client);

const bodies = (events) => events.map((event) => event.body);

// --- properties

test("properties_of_a_hub", async () => {
  const hub = await newHub(4);
  await withProducer(hub, async (client) => {
    const properties = await client.getEventHubProperties();
    assert.equal(properties.name, hub);
    assert.deepEqual(properties.partitionIds, ["0", "1", "2", "3"]);
    assert.ok(Math.abs(Date.now() - properties.createdOn.getTime()) < 300_000);
    assert.deepEqual(await client.getPartitionIds(), ["0", "1", "2", "3"]);
  });
});

test("properties_of_a_partition", async () => {
  const hub = await newHub();
  await withConsumer(hub, async (client) => {
    const empty = await client.getPartitionProperties("1");
    assert.deepEqual([empty.partitionId, empty.isEmpty, empty.lastEnqueuedSequenceNumber], ["1", true, -1]);
    await send(hub, numbered(3), { partitionId: "1" });
    const full = await client.getPartitionProperties("1");
    assert.deepEqual([full.isEmpty, full.beginningSequenceNumber, full.lastEnqueuedSequenceNumber], [false, 0, 2]);
    const last = (await read(hub, 3, { partition: "1" }))[2];
    assert.equal(String(full.lastEnqueuedOffset), String(last.offset));
    assert.equal(full.lastEnqueuedOnUtc.getTime(), last.enqueuedTimeUtc.getTime());
  });
});

test("properties_of_an_unknown_hub", () =>
  withConsumer(
    "no-such-hub",
    (client) => assert.rejects(client.getEventHubProperties(), { code: "MessagingEntityNotFoundError" }),
    once,
  ));

test("properties_of_an_unknown_partition", async () => {
  await withConsumer(await newHub(), (client) => assert.rejects(client.getPartitionProperties("99")), once);
});

// --- sending

test("send_one_event", async () => {
  const hub = await newHub(1);
  await withProducer(hub, (client) => client.sendBatch([{ body: "one" }]));
  assert.deepEqual(bodies(await read(hub, 1)), ["one"]);
});

test("send_a_batch", async () => {
  const hub = await newHub(1);
  await send(hub, numbered(200));
  const events = await read(hub, 200);
  assert.deepEqual(bodies(events), numbered(200));
  assert.deepEqual(events.map((event) => event.sequenceNumber), Array.from({ length: 200 }, (_, index) => index));
});

test("send_to_a_partition", async () => {
  const hub = await newHub(4);
  for (const id of ["0", "1", "2", "3"]) await send(hub, [`for ${id}`], { partitionId: id });
  for (const id of ["0", "1", "2", "3"]) {
    assert.deepEqual(bodies(await read(hub, 1, { partition: id })), [`for ${id}`]);
  }
});

test("send_by_key_goes_where_the_service_puts_it", async () => {
  const hub = await newHub(16);
  const keys = [...Array.from({ length: 40 }, (_, index) => `key ${index}`), "ü", "日本", "a".repeat(128), " "];
  await reading(hub, async (reader) => {
    await withProducer(hub, async (client) => {
      for (const key of keys) await client.sendBatch([{ body: key }], { partitionKey: key });
    });
    for (const event of await reader.take(keys.length)) {
      assert.equal(event.partitionKey, event.body);
      assert.equal(event.partition, String(mapPartitionKeyToId(event.body, 16)), event.body);
    }
  });
});

test("send_without_key_goes_round", async () => {
  const hub = await newHub(4);
  await withProducer(hub, async (client) => {
    for (const body of numbered(8)) await client.sendBatch([{ body }]);
  });
  const { partitions } = await control("GET", `/hubs/${hub}`);
  assert.deepEqual(partitions.map((partition) => partition.events), [2, 2, 2, 2]);
});

test("send_buffered", async () => {
  const hub = await newHub(4);
  const failures = [];
  const options = { onSendEventsErrorHandler: async ({ error }) => failures.push(error), maxWaitTimeInMs: 100 };
  const client = new EventHubBufferedProducerClient(connectionString(hub), options);
  for (const body of numbered(20)) await client.enqueueEvent({ body });
  await client.enqueueEvent({ body: "event 20" }, { partitionKey: "k" });
  await client.close();
  assert.deepEqual(failures, []);
  const events = await reading(hub, (reader) => reader.take(21));
  assert.deepEqual(bodies(events).sort(), numbered(21).sort());
});

test("send_bodies_of_every_size", async () => {
  const hub = await newHub(1);
  const sizes = [0, 1, 254, 255, 256, 257, 15_700, 65_536, 65_537, 1_000_000];
  await withProducer(hub, async (client) => {
    for (const size of sizes) await client.sendBatch([{ body: Buffer.alloc(size, "x") }]);
  });
  assert.deepEqual((await read(hub, sizes.length)).map((event) => event.body.length), sizes);
});

test("send_too_large", async () => {
  const hub = await newHub(1);
  await withProducer(
    hub,
    async (client) => {
      const batch = await client.createBatch();
      assert.equal(batch.maxSizeInBytes, 1024 * 1024);
      assert.equal(batch.tryAdd({ body: "x".repeat(1_100_000) }), false);
      await assert.rejects(client.createBatch({ maxSizeInBytes: 5 * 1024 * 1024 }));
      await assert.rejects(client.sendBatch([{ body: "x".repeat(1_100_000) }]));
      await client.sendBatch([{ body: "small" }]);
    },
    once,
  );
  assert.deepEqual(bodies(await read(hub, 1)), ["small"]);
});

test("send_to_an_unknown_partition", async () => {
  const hub = await newHub();
  for (const partitionId of ["XYZ", "-1", "1000", "-"]) {
    await withProducer(hub, (client) => assert.rejects(client.sendBatch([{ body: "x" }], { partitionId })), once);
  }
});

test("send_to_an_unknown_hub", () =>
  withProducer(
    "no-such-hub",
    (client) => assert.rejects(client.sendBatch([{ body: "x" }]), { code: "MessagingEntityNotFoundError" }),
    once,
  ));

// --- receiving

test("receive_earliest", async () => {
  const hub = await newHub(1);
  await send(hub, numbered(10));
  assert.deepEqual(bodies(await read(hub, 10)), numbered(10));
});

test("receive_latest", async () => {
  const hub = await newHub(1);
  await send(hub, ["old"]);
  const options = { partition: "0", startPosition: latestEventPosition };
  await reading(
    hub,
    async (reader) => {
      await waitFor(async () => (await receivers(hub)) === 1, "the receiver to be attached");
      await send(hub, ["new"]);
      assert.deepEqual(bodies(await reader.take(1)), ["new"]);
    },
    options,
  );
});

/** How many receiving links the namespace has on the hub. */
async function receivers(hub) {
  const links = (await control("GET", "/connections")).flatMap((connection) => connection.links);
  return links.filter((link) => link.role === "receiver" && link.hub === hub).length;
}

test("receive_from_an_offset", async () => {
  const hub = await newHub(1);
  await send(hub, numbered(10));
  const { offset } = (await read(hub, 10))[4];
  assert.deepEqual(bodies(await read(hub, 5, { startPosition: { offset } })), numbered(5, 5));
  assert.deepEqual(bodies(await read(hub, 6, { startPosition: { offset, isInclusive: true } })), numbered(6, 4));
});

test("receive_from_a_sequence_number", async () => {
  const hub = await newHub(1);
  await send(hub, numbered(10));
  assert.deepEqual(bodies(await read(hub, 5, { startPosition: { sequenceNumber: 4 } })), numbered(5, 5));
  const inclusive = { startPosition: { sequenceNumber: 4, isInclusive: true } };
  assert.deepEqual(bodies(await read(hub, 6, inclusive)), numbered(6, 4));
});

test("receive_from_an_enqueued_time", async () => {
  const hub = await newHub(1);
  await send(hub, ["old"]);
  const enqueuedOn = (await read(hub, 1))[0].enqueuedTimeUtc;
  await waitFor(() => Date.now() > enqueuedOn.getTime() + 20, "the clock");
  await send(hub, ["new"]);
  assert.deepEqual(bodies(await read(hub, 1, { startPosition: { enqueuedOn } })), ["new"]);
  const before = { startPosition: { enqueuedOn: new Date(enqueuedOn.getTime() - 1000) } };
  assert.deepEqual(bodies(await read(hub, 2, before)), ["old", "new"]);
});

test("receive_all_partitions_at_once", async () => {
  const hub = await newHub(4);
  for (let id = 0; id < 4; id += 1) await send(hub, numbered(25, id * 25), { partitionId: String(id) });
  const events = await reading(hub, (reader) => reader.take(100));
  assert.deepEqual(bodies(events).sort(), numbered(100).sort());
});

test("receive_in_several_groups", async () => {
  const hub = await newHub(1);
  await send(hub, numbered(3));
  for (const group of ["$default", "$Default", "another"]) {
    assert.deepEqual(bodies(await read(hub, 3, {}, { group })), numbered(3));
  }
});

test("receive_in_an_unknown_group", async () => {
  const hub = await newHub(1, ["known"]);
  await reading(hub, (reader) => reader.error(), { partition: "0" }, { group: "unknown", ...once });
});

test("receive_with_last_enqueued_properties", async () => {
  const hub = await newHub(1);
  await send(hub, numbered(3));
  const options = { partition: "0", trackLastEnqueuedEventProperties: true };
  await reading(
    hub,
    async (reader) => {
      const last = (await reader.take(3))[2];
      assert.equal(reader.last.sequenceNumber, last.sequenceNumber);
      assert.equal(String(reader.last.offset), String(last.offset));
    },
    options,
  );
});

test("resume_after_a_checkpoint", async () => {
  const hub = await newHub(1);
  await send(hub, numbered(10));
  const { offset } = (await read(hub, 4))[3];
  assert.deepEqual(bodies(await read(hub, 6, { startPosition: { offset } })), numbered(6, 4));
});

// --- owner level

test("a_higher_owner_level_takes_over", async () => {
  const hub = await newHub(1);
  await send(hub, ["x"]);
  const at = (ownerLevel) => ({ partition: "0", ownerLevel });
  await reading(
    hub,
    async (low) => {
      await low.take(1);
      await reading(
        hub,
        async (high) => {
          await high.take(1);
          const error = await low.error();
          assert.equal(error.code, "ReceiverDisconnectedError", error.message);
        },
        at(2),
      );
    },
    at(1),
    once,
  );
});

test("a_lower_owner_level_is_refused", async () => {
  const hub = await newHub(1);
  await send(hub, ["x"]);
  await reading(
    hub,
    async (high) => {
      await high.take(1);
      await reading(
        hub,
        async (low) => {
          assert.equal((await low.error()).code, "ReceiverDisconnectedError");
          assert.deepEqual(low.events, []);
        },
        { partition: "0", ownerLevel: 4 },
        once,
      );
      await send(hub, ["y"]);
      assert.deepEqual(bodies(await high.take(2)), ["x", "y"]);
    },
    { partition: "0", ownerLevel: 5 },
  );
});

// --- what an event is made of

test("application_properties_of_every_type", async () => {
  const hub = await newHub(1);
  const properties = {
    null: null, true: true, false: false, zero: 0, negative: -1, int: 2 ** 31 - 1, long: 2 ** 40, double: 0.1,
    text: "Grüße, 世界", empty: "", long_text: "x".repeat(300),
    moment: new Date("2026-01-02T03:04:05.678Z"),
  };
  await withProducer(hub, (client) => client.sendBatch([{ body: "x", properties }]));
  const received = (await read(hub, 1))[0].properties;
  // The client hands timestamps of properties over as milliseconds.
  assert.deepEqual(received, { ...properties, moment: properties.moment.getTime() });
});

test("system_properties", async () => {
  const hub = await newHub(1);
  const event = { body: "x", contentType: "application/json", messageId: "m-1", correlationId: "c-1" };
  await withProducer(hub, (client) => client.sendBatch([event], { partitionKey: "k" }));
  const [received] = await read(hub, 1);
  assert.deepEqual([received.contentType, received.messageId, received.correlationId], ["application/json", "m-1", "c-1"]);
  assert.deepEqual([received.partitionKey, received.sequenceNumber], ["k", 0]);
  assert.ok(received.enqueuedTimeUtc instanceof Date && received.offset !== undefined);
});

test("every_section_of_a_message", async () => {
  const hub = await newHub(1);
  const message = {
    body: "x",
    bodyType: "data",
    header: { priority: 7, durable: true },
    properties: { to: "t", subject: "s", replyTo: "r", contentEncoding: "ce", groupId: "g", groupSequence: 3 },
    applicationProperties: { app: 1 },
    messageAnnotations: { mine: "annotation" },
    footer: { foot: "note" },
  };
  await withProducer(hub, (client) => client.sendBatch([message]));
  const raw = (await read(hub, 1))[0].getRawAmqpMessage();
  assert.deepEqual([raw.header.priority, raw.header.durable], [7, true]);
  for (const [key, value] of Object.entries(message.properties)) assert.equal(raw.properties[key], value, key);
  assert.deepEqual(raw.applicationProperties, { app: 1 });
  assert.equal(raw.messageAnnotations.mine, "annotation");
});

test("bodies_of_every_kind", async () => {
  const hub = await newHub(1);
  const json = { text: "a", number: 1.5, list: [true, null], nested: { deep: [1, [2]] } };
  const messages = [
    { body: json },
    { body: Buffer.from([0, 255]) },
    { body: json, bodyType: "value" },
    { body: [1, "two", null], bodyType: "sequence" },
  ];
  await withProducer(hub, (client) => client.sendBatch(messages));
  const received = await read(hub, 4);
  assert.deepEqual(received[0].body, json);
  assert.deepEqual(Buffer.from(received[1].body), Buffer.from([0, 255]));
  assert.deepEqual(received[2].body, json);
  assert.deepEqual(received[3].body, [1, "two", null]);
  assert.deepEqual(received.map((event) => event.getRawAmqpMessage().bodyType), ["data", "data", "value", "sequence"]);
});

// --- when things break

for (const action of ["detach", "end-session", "close", "reset", "busy"]) {
  test(`a_reader_goes_on_after_${action}`, async () => {
    const hub = await newHub(1);
    await send(hub, numbered(20));
    await fault(action, "delivery", { skip: 10, target: { hub, role: "receiver" } });
    const events = await read(hub, 20, {}, quick);
    assert.deepEqual(bodies(events), numbered(20), "each event once, in order");
  });
}

for (const action of ["detach", "end-session", "close", "reset", "busy"]) {
  test(`a_sender_goes_on_after_${action}`, async () => {
    const hub = await newHub(1);
    await withProducer(
      hub,
      async (client) => {
        await client.sendBatch([{ body: "event 0" }]);
        await fault(action, "send", { target: { hub } });
        for (const body of numbered(5, 1)) await client.sendBatch([{ body }]);
      },
      quick,
    );
    const received = bodies(await read(hub, 6));
    assert.deepEqual([...new Set(received)].sort(), numbered(6), "nothing is lost");
  });
}

test("refused_tokens_are_an_authentication_error", async () => {
  const hub = await newHub(1);
  await fault("refuse", "token", { times: null });
  await withProducer(hub, (client) => assert.rejects(client.getEventHubProperties()), once);
  await control("DELETE", "/faults");
  await send(hub, ["x"]);
});

test("a_closed_client_ends_its_subscription", async () => {
  const hub = await newHub(1);
  await send(hub, ["x"]);
  await read(hub, 1);
  await within(waitFor(async () => (await receivers(hub)) === 0, "the link to be gone"), "the link to be gone");
});

await main();
