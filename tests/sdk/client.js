// The vendor's client for JavaScript against a vitald: makes, lists, changes and deletes
// a channel, signed, and is refused with another key. Called by test_javascript.py; the
// first surprise ends it. Where the daemon is comes from the environment, see clients.py.
"use strict";

const assert = require("node:assert");
const { BasicCredentials } = require("@huaweicloud/huaweicloud-sdk-core");
const { ClientBuilder } = require("@huaweicloud/huaweicloud-sdk-core/ClientBuilder");

const { VITALD_ENDPOINT, VITALD_PROJECT, VITALD_INSTANCE, VITALD_AK, VITALD_SK } = process.env;
const CHANNELS = "/v2/{project_id}/apigw/instances/{instance_id}/vpc-channels";

function clientWith(secretKey) {
  const credential = new BasicCredentials().withAk(VITALD_AK).withSk(secretKey).withProjectId(VITALD_PROJECT);
  return new ClientBuilder((client) => client).withCredential(credential).withEndpoint(VITALD_ENDPOINT).build();
}

// What the generated clients of the services hand to the core.
function request(method, url, { path = {}, query = {}, data } = {}) {
  return {
    method,
    url,
    contentType: data ? "application/json;charset=UTF-8" : "application/json",
    pathParams: { instance_id: VITALD_INSTANCE, ...path },
    queryParams: query,
    headers: {},
    data: data ?? {},
  };
}

async function main() {
  const client = clientWith(VITALD_SK);
  const name = `javascript_通道〇_${process.pid}`;
  const body = { name, port: 8080, balance_strategy: 1, member_type: "ip", members: [{ host: "192.0.2.9" }] };
  const made = await client.sendRequest(request("POST", CHANNELS, { data: body }));
  assert.deepStrictEqual([made.httpStatusCode, made.name], [201, name]);
  const path = { vpc_channel_id: made.id };
  const one = `${CHANNELS}/{vpc_channel_id}`;
  const query = { name, precise_search: "name,member_group_name", limit: 5, offset: 0 };
  const listed = await client.sendRequest(request("GET", CHANNELS, { query }));
  assert.deepStrictEqual([listed.total, listed.vpc_channels[0].id], [1, made.id]);
  const members = { members: [{ host: "192.0.2.10", weight: 5 }] };
  const added = await client.sendRequest(request("POST", `${one}/members`, { path, data: members }));
  assert.deepStrictEqual([added.httpStatusCode, added.members[0].weight], [201, 5]);
  const changed = await client.sendRequest(request("PUT", one, { path, data: { ...body, port: 8081 } }));
  assert.deepStrictEqual([changed.httpStatusCode, changed.port], [200, 8081]);
  const gone = await client.sendRequest(request("DELETE", one, { path }));
  assert.strictEqual(gone.httpStatusCode, 204);
  await assert.rejects(client.sendRequest(request("GET", one, { path })), { errorCode: "APIG.3023" });
  await assert.rejects(clientWith("another").sendRequest(request("GET", CHANNELS)), { errorCode: "APIG.0301" });
  console.log("7 calls answered, 2 refused");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
