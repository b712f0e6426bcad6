// What a user of viem does and sees; the task comes on standard input, the report goes out.
import { readFileSync } from "node:fs";
import {
  BaseError, ContractFunctionRevertedError, createPublicClient, createWalletClient, defineChain,
  encodeFunctionData, getAddress, http, parseAbi, parseEventLogs, webSocket,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";

const task = JSON.parse(readFileSync(0, "utf8"));
const chain = defineChain({
  id: task.chain_id, name: "devnet", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [task.url] } },
});
const transport = http(task.url);
const reader = createPublicClient({ chain, transport, pollingInterval: 50, cacheTime: 0 });
const wallet = (key) => createWalletClient({ chain, transport, account: privateKeyToAccount(key) });
const [registrar, treasury] = [wallet(task.registrar.key), wallet(task.treasury.key)];
const account = treasury.account;
const mined = (hash) => reader.waitForTransactionReceipt({ hash });

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    const inner = error instanceof BaseError
      && error.walk((each) => each instanceof ContractFunctionRevertedError);
    if (inner) return inner;
    throw error;
  }
  throw new Error("it was not refused");
}

async function deployed(made, ...args) {
  return mined(await registrar.deployContract({ abi: made.abi, bytecode: made.bytecode, args }));
}

const created = await deployed(task.registry, task.registrar.address);
const registry = { address: created.contractAddress, abi: task.registry.abi };
const credited = await deployed(task.credit, registry.address);
const credit = { address: credited.contractAddress, abi: task.credit.abi };
const probed = await deployed(task.probe);
const probe = {
  address: probed.contractAddress,
  abi: [...task.probe.abi, ...parseAbi(["error TooFew(uint256 have, uint256 want)"])],
};

// Heard while it happens: by polling, and by a subscription over a WebSocket. The registry is listened
// to as well: once it is heard, so would the credit be.
function listen(through, poll) {
  const heard = { heads: [], minted: [], members: 0 };
  const onError = (error) => { throw error; };
  through.watchBlocks({
    poll, onError, emitOnBegin: poll, emitMissed: poll,
    onBlock: (block) => heard.heads.push([Number(block.number), block.hash]),
  });
  through.watchContractEvent({
    address: [registry.address, credit.address], abi: [...registry.abi, ...credit.abi], poll, onError,
    onLogs: (logs) => {
      heard.members += logs.filter((log) => log.eventName === "MemberChanged").length;
      logs.filter((log) => log.eventName === "Minted").forEach((log) => heard.minted.push({
        args: [log.args.to, Number(log.args.amount), log.args.funding_reference],
        transaction: log.transactionHash, block: Number(log.blockNumber),
      }));
    },
  });
  return heard;
}
async function until(condition) {
  const end = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error("heard nothing");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const polled = listen(reader, true);
const pushed = listen(createPublicClient({ chain, transport: webSocket(task.ws) }), false);

const row = {
  account: task.treasury.address, role: 2, status: 1, valid_until: 0n,
  commitment: task.word, reason: task.word,
};
const enrol = async () => mined(
  await registrar.writeContract({ ...registry, functionName: "set_member", args: [row] }),
);
await enrol();
const began = Date.now();
while (polled.members === 0 || pushed.members === 0) {
  if (Date.now() - began > 20_000) throw new Error("no member was heard of");
  await enrol();
}
const member = await reader.readContract({
  ...registry, functionName: "member", args: [task.treasury.address],
});

const order = {
  ...credit, functionName: "mint", account,
  args: [task.treasury.address, BigInt(task.amount), task.word],
};
const estimate = Number(await reader.estimateContractGas(order));
const { request } = await reader.simulateContract(order);
const mint = await mined(await treasury.writeContract(request));
const logs = await reader.getContractEvents({
  ...credit, eventName: "Minted", args: { to: task.treasury.address }, fromBlock: created.blockNumber,
});

const call = await refused(reader.simulateContract(order));
const estimating = await refused(reader.estimateContractGas(order));
const failed = await mined(await treasury.writeContract({ ...order, gas: 200_000n }));
const custom = await refused(reader.simulateContract({
  ...probe, functionName: "refuse_with_numbers", args: [3n, 8n], account,
}));

const transfers = {};
const seen = ({ status, type, gasUsed }) => ({
  status: Number(status === "success"), gas: Number(gasUsed),
  type: { legacy: 0, eip2930: 1, eip1559: 2, eip7702: 4 }[type],
});
let last;
for (const number of task.types) {
  const order = {
    0: { type: "legacy" }, 1: { type: "eip2930", accessList: [] }, 2: { type: "eip1559" }, 4: {},
  }[number];
  Object.assign(order, { to: task.stranger, value: 5n });
  if (number === 4) {
    order.to = task.treasury.address;
    order.value = 0n;
    order.authorizationList = [await treasury.signAuthorization({
      contractAddress: probe.address, executor: "self",
    })];
    order.data = encodeFunctionData({ ...probe, functionName: "note", args: [1n, 2n] });
    order.gas = 300_000n;
  }
  last = await mined(await treasury.sendTransaction(order));
  transfers[number] = seen(last);
}

const fees = await reader.estimateFeesPerGas();
const block = await reader.getBlock({ blockNumber: mint.blockNumber });
const looked = await reader.getTransaction({ hash: mint.transactionHash });
const caught = (heard) => heard.minted.length > 0
  && heard.heads.some(([number]) => number === Number(last.blockNumber));
await until(() => caught(polled) && caught(pushed));

console.log(JSON.stringify({
  chain_id: await reader.getChainId(),
  registry: getAddress(registry.address),
  credit: getAddress(credit.address),
  created: {
    status: Number(created.status === "success"), address: getAddress(created.contractAddress),
    block: Number(created.blockNumber),
  },
  member: member.map(String),
  balance: Number(await reader.readContract({
    ...credit, functionName: "balanceOf", args: [task.treasury.address],
  })),
  estimate,
  mint: {
    status: Number(mint.status === "success"), gas: Number(mint.gasUsed),
    block: Number(mint.blockNumber), hash: mint.transactionHash,
    logs: parseEventLogs({ abi: credit.abi, logs: mint.logs }).map((log) => log.eventName),
  },
  logs: logs.map(({ args }) => [args.to, Number(args.amount), args.funding_reference]),
  refused: {
    call: call.reason, estimate: estimating.reason, mined: Number(failed.status === "success"),
  },
  custom: [custom.data.errorName, ...custom.data.args.map(Number)],
  transfers,
  code: await reader.getCode({ address: task.treasury.address }),
  fees: [Number(await reader.getGasPrice()), Number(fees.maxFeePerGas), Number(block.baseFeePerGas)],
  block: { hash: block.hash, transactions: block.transactions },
  looked: { from: getAddress(looked.from), nonce: looked.nonce, block: Number(looked.blockNumber) },
  polled: polled.minted,
  pushed: { heads: pushed.heads, minted: pushed.minted },
}));
process.exit(0);
