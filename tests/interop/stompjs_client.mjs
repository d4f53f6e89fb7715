// Carries out one task with @stomp/stompjs over TCP. The task is a JSON object on stdin, its result JSON on stdout.
import { Client } from "@stomp/stompjs";
import { TCPWrapper } from "@stomp/tcp-wrapper";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const task = JSON.parse(Buffer.concat(chunks).toString());

const client = new Client({
  webSocketFactory: () => new TCPWrapper("127.0.0.1", task.port),
  connectHeaders: { login: "somebody", passcode: ":=secret", host: "example.org" },
  heartbeatIncoming: 10000,
  heartbeatOutgoing: 10000,
  reconnectDelay: 0,
});

function fail(reason) {
  console.error(reason);
  process.exit(1);
}

async function finish(result) {
  client.onWebSocketClose = () => {};
  await client.deactivate();
  process.stdout.write(JSON.stringify(result), () => process.exit(0));
}

function plain(message) {
  return { headers: message.headers, body: Buffer.from(message.binaryBody).toString("hex") };
}

function send() {
  let confirmed = 0;
  task.bodies.forEach((body, number) => {
    const receipt = `r-${number}`;
    client.watchForReceipt(receipt, () => {
      confirmed += 1;
      if (confirmed === task.bodies.length) finish(confirmed);
    });
    client.publish({
      destination: task.destination,
      binaryBody: Uint8Array.from(Buffer.from(body, "hex")),
      headers: { ...task.headers, receipt },
    });
  });
}

function receive() {
  const messages = [];
  client.subscribe(
    task.destination,
    (message) => {
      messages.push(plain(message));
      message.ack();
      if (messages.length === task.count) finish(messages);
    },
    { ack: "client-individual" },
  );
}

// One message in a transaction that is committed, one in a transaction that is not, and one that is given back once.
function transact() {
  const committed = client.begin();
  client.publish({ destination: task.destination, body: "committed", headers: { transaction: committed.id } });
  const aborted = client.begin();
  client.publish({ destination: task.destination, body: "aborted", headers: { transaction: aborted.id } });
  aborted.abort();
  committed.commit();
  const messages = [];
  client.subscribe(
    task.destination,
    (message) => {
      messages.push(plain(message));
      if (messages.length === 1) {
        message.nack();
      } else {
        message.ack();
        finish(messages);
      }
    },
    { ack: "client-individual" },
  );
}

client.onConnect = { send, receive, transact }[task.do];
client.onStompError = (frame) => fail(frame.body);
client.onWebSocketClose = () => fail("the connection was lost");
client.onWebSocketError = (error) => fail(String(error));
client.activate();
