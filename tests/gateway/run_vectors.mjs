// What the reader in JavaScript decides on each vector, as JSON; test_readers.py compares.
import { readFileSync } from "node:fs";
import { decide, headers } from "../../deploy/gateway/readers/session_reader.mjs";

const { incarnation, now, vectors } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const bytes = ({ raw, rawHex }) =>
  rawHex !== undefined ? Buffer.from(rawHex, "hex") : raw === null ? null : Buffer.from(raw);
const decided = vectors.map((vector) => {
  const decision = decide(vector.claims, bytes(vector), incarnation, now, vector.require);
  const { verdict, ...identity } = decision;
  return { verdict, identity, headers: headers(decision) };
});
console.log(JSON.stringify(decided));
