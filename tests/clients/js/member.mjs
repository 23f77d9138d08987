// A processor of the official JavaScript SDK, as a process of its own: `member.mjs HUB CONTAINER LOG EXPIRY`.
//
// It appends a JSON line to its log when it gets or loses a partition, and one for each event, before it moves the checkpoint over it.

import { appendFileSync } from "node:fs";

import { EventHubConsumerClient, earliestEventPosition } from "@azure/event-hubs";
import { BlobCheckpointStore } from "@azure/eventhubs-checkpointstore-blob";
import { ContainerClient, StorageSharedKeyCredential } from "@azure/storage-blob";

import { connectionString } from "./harness.mjs";

const [hub, container, log, expiry] = process.argv.slice(2);
const write = (line) => appendFileSync(log, `${JSON.stringify(line)}\n`);

// The account and key that every Azurite has.
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const blobs = new ContainerClient(
  `${process.env.WEIR_BLOBS}/${container}`,
  new StorageSharedKeyCredential(account, key),
);

const client = new EventHubConsumerClient(
  "$default",
  connectionString(hub),
  new BlobCheckpointStore(blobs),
  {
    loadBalancingOptions: {
      updateIntervalInMs: 1000,
      partitionOwnershipExpirationIntervalInMs: Number(expiry) * 1000,
    },
  },
);

client.subscribe(
  {
    processInitialize: async ({ partitionId }) => write({ partition: partitionId, owns: true }),
    processClose: async (_reason, { partitionId }) => write({ partition: partitionId, owns: false }),
    processEvents: async (events, context) => {
      for (const event of events) write({ partition: context.partitionId, sequence: event.sequenceNumber });
      if (events.length > 0) await context.updateCheckpoint(events.at(-1));
    },
    processError: async (error) => console.error(error.message),
  },
  { startPosition: earliestEventPosition, maxBatchSize: 10, maxWaitTimeInSeconds: 1 },
);
