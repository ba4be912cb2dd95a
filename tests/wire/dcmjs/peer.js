// dcmjs-dimse against Hilum: echo, store, find, get, move. One JSON object on stdout says what came of each.
// node peer.js HILUM_PORT OWN_PORT FILE STUDY_UID, or only listening: node peer.js 0 OWN_PORT listen COUNT

const path = require('path');
const { createRequire } = require('module');
const dcmjsDimse = createRequire(path.join(process.env.DCMJS_FOLDER, 'index.js'))('dcmjs-dimse');
const { Client, Server, Scp } = dcmjsDimse;
const { CEchoRequest, CFindRequest, CGetRequest, CMoveRequest, CStoreRequest } = dcmjsDimse.requests;
const { CStoreResponse, CEchoResponse } = dcmjsDimse.responses;
const { PresentationContextResult, Status, TransferSyntax } = dcmjsDimse.constants;

const [hilum, own, file, study] = process.argv.slice(2);
const arrived = [];

class Destination extends Scp {
  associationRequested(association) {
    association.getPresentationContexts().forEach(({ id }) => {
      const context = association.getPresentationContext(id);
      const offered = context.getTransferSyntaxUids();
      const known = [TransferSyntax.ExplicitVRLittleEndian, TransferSyntax.ImplicitVRLittleEndian];
      const chosen = known.find((each) => offered.includes(each));
      if (chosen) {
        context.setResult(PresentationContextResult.Accept, chosen);
      } else {
        context.setResult(PresentationContextResult.RejectTransferSyntaxesNotSupported);
      }
    });
    this.sendAssociationAccept();
  }

  cEchoRequest(request, callback) {
    const response = CEchoResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }

  cStoreRequest(request, callback) {
    arrived.push(request.getDataset().getElement('SOPInstanceUID'));
    const response = CStoreResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

// Send one request; the statuses and data sets of its responses.
function ask(request, onStore) {
  return new Promise((resolve, reject) => {
    const client = new Client();
    const told = { statuses: [], datasets: [] };
    request.on('response', (response) => {
      told.statuses.push(response.getStatus());
      if (response.hasDataset()) told.datasets.push(response.getDataset().getElements());
      if (response.getCompleted) told.completed = response.getCompleted();
    });
    if (onStore) client.on('cStoreRequest', onStore);
    client.on('networkError', reject);
    client.on('associationRejected', () => reject(new Error('rejected')));
    client.on('closed', () => resolve(told));
    client.addRequest(request);
    client.send('127.0.0.1', Number(hilum), 'DCMJS', 'HILUM');
  });
}

async function main() {
  const server = new Server(Destination);
  server.listen(Number(own));
  if (file === 'listen') {
    while (arrived.length < Number(study)) await new Promise((go) => setTimeout(go, 20));
    await new Promise((go) => setTimeout(go, 300));
    console.log(JSON.stringify(arrived));
    process.exit(0);
  }
  const got = [];
  const take = (request, callback) => {
    got.push(request.getDataset().getElement('SOPInstanceUID'));
    const response = CStoreResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  };
  const result = {
    echo: await ask(new CEchoRequest()),
    store: await ask(new CStoreRequest(file)),
    find: await ask(CFindRequest.createStudyFindRequest({ StudyInstanceUID: study, PatientName: '*', PatientID: '' })),
    nothing: await ask(CFindRequest.createStudyFindRequest({ StudyInstanceUID: '1.2.404' })),
    get: await ask(CGetRequest.createStudyGetRequest(study), take),
    move: await ask(CMoveRequest.createStudyMoveRequest('DCMJS', study)),
    nowhere: await ask(CMoveRequest.createStudyMoveRequest('NOBODY', study)),
  };
  server.close();
  console.log(JSON.stringify({ ...result, got, arrived }));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
