"""The plain way: ST-GCN and the training steps of HiCLR, SkeletonCLR and CMAL as they are usually written. The benchmark's yardstick, and in a test the same function as ours.

Usual means: contiguous (N,C,T,V) maps, a 1x1 convolution to three times the channels, an einsum over the graph, a 9x1 convolution, dropout of torch, persons always computed, all branches
in one graph with one backward pass, a loop over the parameters for the moving average, a queue (D,K) with a pointer that is read every step.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

NTU_PARENT = [1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 22, 7, 24, 11]


def spatial_graph(parents=NTU_PARENT, centre=20):
    "(3,V,V): self, toward the centre or as far from it, away from it; each column normalised by its degree. The usual code looks one hop far: all that is further counts as equally far."
    n = len(parents)
    A = torch.eye(n)
    for joint, parent in enumerate(parents): A[joint, parent] = A[parent, joint] = 1
    hops = torch.where(A[centre] > 0, 1., float("inf"))
    hops[centre] = 0
    A = A / A.sum(0)
    parts, farther = torch.zeros(3, n, n), hops[:, None] >= hops[None]
    parts[0], parts[1], parts[2] = A.diag().diag(), A * farther * (1 - torch.eye(n)), A * ~farther
    return parts


class Block(nn.Module):
    def __init__(self, cin, cout, A, stride=1, residual=True, dropout=.5):
        super().__init__()
        self.register_buffer("A", A.clone())
        self.K, self.drop, self.has_residual = len(A), dropout if residual else 0, residual
        self.importance = nn.Parameter(torch.ones_like(A))
        self.graph = nn.Conv2d(cin, cout * self.K, 1)
        self.bn1 = nn.BatchNorm2d(cout)
        self.time = nn.Conv2d(cout, cout, (9, 1), (stride, 1), (4, 0))
        self.bn2 = nn.BatchNorm2d(cout)
        if residual and (stride > 1 or cin != cout): self.residual = nn.Sequential(nn.Conv2d(cin, cout, 1, (stride, 1)), nn.BatchNorm2d(cout))
        else: self.residual = nn.Identity()

    def forward(self, x):
        res = self.residual(x) if self.has_residual else 0
        y = self.graph(x)
        n, kc, t, v = y.shape
        y = torch.einsum("nkctv,kvw->nctw", y.view(n, self.K, kc // self.K, t, v), self.A * self.importance).contiguous()
        y = self.bn2(self.time(F.relu(self.bn1(y), inplace=True)))
        return F.relu(F.dropout(y, self.drop, self.training, inplace=True) + res, inplace=True)


class PlainSTGCN(nn.Module):
    "(N,C,T,V,M) -> (N, feature_dim)"
    def __init__(self, A=None, width=16, feature_dim=256, dropout=.5):
        super().__init__()
        A = spatial_graph() if A is None else A
        self.data_bn = nn.BatchNorm1d(3 * A.shape[1])
        plan = [(3, width, 1)] + [(width, width, 1)] * 3 + [(width, 2 * width, 2)] + [(2 * width, 2 * width, 1)] * 2 + [(2 * width, 4 * width, 2), (4 * width, 4 * width, 1), (4 * width, feature_dim, 1)]
        self.blocks = nn.ModuleList(Block(cin, cout, A, stride, i > 0, dropout) for i, (cin, cout, stride) in enumerate(plan))

    def forward(self, x):
        n, c, t, v, m = x.shape
        x = x.permute(0, 4, 3, 1, 2).contiguous().view(n * m, v * c, t)
        x = self.data_bn(x).view(n, m, v, c, t).permute(0, 1, 3, 4, 2).contiguous().view(n * m, c, t, v)
        for block in self.blocks: x = block(x)
        return F.avg_pool2d(x, x.shape[2:]).view(n, m, -1).mean(1)


def mlp(*widths, norm=False):
    a, b, c = widths
    return nn.Sequential(nn.Linear(a, b), *[nn.BatchNorm1d(b)] * norm, nn.ReLU(), nn.Linear(b, c))


class Plain(nn.Module):
    "A query network, a key network that follows, and what both plain methods share."
    def __init__(self, encoder, projector, tau):
        super().__init__()
        self.online = nn.ModuleDict({"encoder": encoder, "projector": projector})
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.tau = tau

    def follow(self):
        with torch.no_grad():
            for a, b in zip(self.target.parameters(), self.online.parameters()): a.data = a.data * self.tau + b.data * (1 - self.tau)

    def say(self, network, x): return network["projector"](network["encoder"](x))


class PlainQueue(Plain):
    "SkeletonCLR with one query view, HiCLR with three; views are of the stream already, in the order query, key, other branches."
    def __init__(self, encoder, feature_dim=256, projection=128, queue=32768, temperature=.07, tau=.999, lambda_h=.5):
        super().__init__(encoder, mlp(feature_dim, feature_dim, projection), tau)
        self.token, self.temperature, self.lambda_h = nn.Parameter(torch.zeros(())), temperature, lambda_h
        self.register_buffer("queue", F.normalize(torch.randn(projection, queue), dim=0))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    def unit(self, network, x): return F.normalize(self.say(network, x), dim=1)

    def forward(self, views, mask=None):
        "Loss and keys. mask (T,V) bool, True = keep: of the last branch, the same for all clips."
        first, key, *others = views
        if mask is not None: others[-1] = torch.where(mask[None, None, :, :, None], others[-1], self.token)
        q = [self.unit(self.online, x) for x in (first, *others)]
        with torch.no_grad(): k = self.unit(self.target, key)
        logits = [torch.cat([torch.einsum("nc,nc->n", z, k).unsqueeze(1), torch.einsum("nc,ck->nk", z, self.queue.clone().detach())], 1) / self.temperature for z in q]
        loss = F.cross_entropy(logits[0], torch.zeros(len(k), dtype=torch.long, device=k.device))
        for teacher, student in zip(logits, logits[1:]):
            p = F.softmax(teacher.detach(), 1)
            loss = loss + self.lambda_h * -(p * F.log_softmax(student, 1)).sum(1).mean()
        return loss, k

    def after_step(self, k):
        self.follow()
        with torch.no_grad():
            at = int(self.pointer)
            self.queue[:, at:at + len(k)] = k.T
            self.pointer[0] = (at + len(k)) % self.queue.shape[1]


class PlainCMAL(Plain):
    "Online encoder, projector and predictor; target encoder and projector; two views."
    def __init__(self, encoder, feature_dim=512, hidden=None, tau=.996):
        hidden = hidden or 4 * feature_dim
        super().__init__(encoder, mlp(feature_dim, hidden, feature_dim, norm=True), tau)
        self.predictor = mlp(feature_dim, hidden, feature_dim, norm=True)

    def forward(self, views, mask=None):
        p, p2 = (self.predictor(self.say(self.online, x)) for x in views)
        with torch.no_grad(): z, z2 = (self.say(self.target, x) for x in views)
        distance = lambda a, b: 2 - 2 * (F.normalize(a, dim=1) * F.normalize(b, dim=1)).sum(1)
        return (distance(p, p2) - .5 * (distance(p, z) + distance(p2, z2))).mean(), None

    def after_step(self, k): self.follow()


def random_mask(T=50, V=25, hidden=2):
    "(T,V) bool: in every frame some joints are hidden."
    mask = torch.ones(T, V, dtype=torch.bool)
    for t in range(T): mask[t, torch.randperm(V)[:hidden]] = False
    return mask


def plain_like(method):
    "The plain version of one of our methods (one stream), with its weights, statistics and queue."
    pair = next(iter(method.pairs.values()))
    ours = pair.online.encoder
    new = PlainSTGCN(ours.blocks[0].A.clone(), ours.config["width"], ours.feature_dim, ours.config["dropout"])
    head = pair.online.projector
    if hasattr(method, "queues"):
        queue = next(iter(method.queues.values()))
        plain = PlainQueue(new, ours.feature_dim, head[-1].out_features, len(queue), method.temperature, method.tau, getattr(method, "lambda_h", 0.))
        plain.queue.copy_(queue.rows.T)
        for token in method.tokens.values(): plain.token.data.copy_(token.data)
    else:
        plain = PlainCMAL(new, ours.feature_dim, head[0].out_features, method.tau)
        plain.predictor.load_state_dict(next(iter(method.predictors.values())).state_dict())
    for side in ("online", "target"):
        theirs, mine = getattr(plain, side), getattr(pair, side)
        theirs["encoder"].load_state_dict({**{k: v for k, v in theirs["encoder"].state_dict().items() if k.endswith(".A")}, **mine.encoder.state_dict()})
        theirs["projector"].load_state_dict(mine.projector.state_dict())
    return plain
